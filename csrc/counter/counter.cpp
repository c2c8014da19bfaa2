#include "crowd/counter.h"

#include <utility>

#include "convert.h"
#include "interpreter.h"

namespace crowd {
namespace {

namespace py = pybind11;

// Runs body with the interpreter lock; what Python raises, it throws as Error.
template <typename Body>
auto with_python(const Body& body) {
  const GilLock lock;
  try {
    return body();
  } catch (const py::error_already_set& error) {
    throw to_error(error);
  } catch (const py::builtin_exception& error) {
    // Conversions throw these: a result that is not what this library was built for.
    throw Error("EngineError",
                std::string(error.what()) + "; is crowd-engine of another version than libcrowd?");
  }
}

py::module_ import_engine() {
  try {
    return py::module_::import("engine");
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_ModuleNotFoundError)) throw;
    const py::module_ sys = py::module_::import("sys");
    throw Error("ModuleNotFoundError",
                "crowd-engine is not installed for Python " PY_VERSION " in " +
                    to_utf8(py::str(sys.attr("prefix"))) + " (" + describe(error) +
                    "); set Options::python or VIRTUAL_ENV to an environment of that version that has it");
  }
}

}  // namespace

// Holds engine.CrowdCounter.
struct Counter::Engine {
  PyObject* counter;

  explicit Engine(const Options& options) {
    start_interpreter(options.python);
    counter = with_python(
        [&] { return import_engine().attr("CrowdCounter")(**to_arguments(options)).release().ptr(); });
    watch_forks();
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine() {
    if (!interpreter_runs()) return;
    const GilLock lock;
    Py_DECREF(counter);
  }

  template <typename MakeSource>
  CountResult count(const MakeSource& make_source, const CountOptions& options, Color color) const {
    return with_python([&] {
      py::dict arguments = to_arguments(options);
      arguments["color"] = color == Color::bgr ? "bgr" : "rgb";
      const py::object source = make_source();
      return to_result(py::handle(counter).attr("count")(source, **arguments));
    });
  }
};

Counter::Counter(const Options& options) : engine_(std::make_unique<Engine>(options)) {}
Counter::Counter(Counter&&) noexcept = default;
Counter& Counter::operator=(Counter&&) noexcept = default;
Counter::~Counter() = default;

CountResult Counter::count(const Image& image, const CountOptions& options) const {
  return engine().count([&] { return to_array(image); }, options, image.color);
}

CountResult Counter::count(const std::filesystem::path& path, const CountOptions& options) const {
  return engine().count([&] { return to_path(path); }, options, Color::rgb);
}

CountResult Counter::count_encoded(const void* bytes, std::size_t size, const CountOptions& options) const {
  return engine().count([&] { return to_bytes(bytes, size); }, options, Color::rgb);
}

void Counter::close() {
  with_python([&] { py::handle(engine().counter).attr("close")(); });
}

const Counter::Engine& Counter::engine() const {
  if (engine_ == nullptr)
    throw Error("EngineError", "this Counter was moved from; use the one it was moved to");
  return *engine_;
}

}  // namespace crowd
