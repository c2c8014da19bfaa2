#include "interpreter.h"

#include <pybind11/embed.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <system_error>

#include "crowd/counter.h"

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace crowd {
namespace {

namespace fs = std::filesystem;
namespace py = pybind11;

// Set once the libraries that the engine has loaded since are gone.
std::atomic<bool> process_ends{false};

#ifdef _WIN32
constexpr const char* kPythonOfVenv = "Scripts/python.exe";
#else
constexpr const char* kPythonOfVenv = "bin/python";
#endif

// Not resolved: python of a virtual environment is a link to one that knows nothing of it.
fs::path plain(const fs::path& path) { return fs::absolute(path).lexically_normal(); }

// Empty: Python's own rule.
fs::path choose_python(const std::string& python) {
  fs::path chosen = python;
  const char* venv = std::getenv("VIRTUAL_ENV");
  if (chosen.empty() && venv != nullptr && *venv != '\0') chosen = fs::path(venv) / kPythonOfVenv;
  if (chosen.empty()) return chosen;
  std::error_code missing;
  if (!fs::is_regular_file(chosen, missing)) {
    throw Error("ConfigError", chosen.string() + " is not a Python executable; " +
                                   (python.empty() ? "correct VIRTUAL_ENV, or set Options::python"
                                                   : "set Options::python to that of the environment that "
                                                     "crowd-engine is installed in"));
  }
  return plain(chosen);
}

// Extension modules such as NumPy's look Python's symbols up in the whole process, which does not see them
// where this library came with a plug-in.
void publish_python_symbols() {
#if defined(__unix__) || defined(__APPLE__)
  Dl_info python;
  if (dladdr(reinterpret_cast<void*>(&Py_IsInitialized), &python) != 0) {
    dlopen(python.dli_fname, RTLD_LAZY | RTLD_GLOBAL | RTLD_NOLOAD);
  }
#endif
}

void initialize(const fs::path& python) {
  publish_python_symbols();
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.parse_argv = 0;
  // Ctrl-C stays with the program.
  config.install_signal_handlers = 0;
  if (!python.empty()) {
    const std::wstring name = python.wstring();
    PyConfig_SetString(&config, &config.program_name, name.c_str());
    PyConfig_SetString(&config, &config.executable, name.c_str());
  }
  try {
    py::initialize_interpreter(&config, 0, nullptr, /*add_program_dir_to_path=*/false);
  } catch (const std::exception& error) {
    throw Error("EngineError",
                std::string("Python " PY_VERSION " does not start (") + error.what() +
                    "); check PYTHONHOME, and that Options::python or VIRTUAL_ENV is of this version");
  }
  // Never ended: at exit other threads may be counting, and what they hold would outlive it.
  PyEval_SaveThread();
}

// A host's interpreter, or that of an earlier counter, cannot be exchanged for another.
void require_same_python(const std::string& python) {
  if (python.empty()) return;
  const GilLock lock;
  const std::string running = py::str(py::module_::import("sys").attr("executable"));
  if (plain(running) != plain(python)) {
    throw Error("ConfigError", "Options::python is " + python + ", but this process runs " + running +
                                   " already, and can run no other; leave Options::python empty");
  }
}

bool python_ends() {
#if PY_VERSION_HEX >= 0x030d0000
  return Py_IsFinalizing() != 0;
#else
  return _Py_IsFinalizing() != 0;
#endif
}

// Keeps the Python state of a thread that Python did not start from its first lock until the thread ends.
class ThreadState {
 public:
  ThreadState() {
    if (PyGILState_GetThisThreadState() != nullptr) return;
    first_ = PyGILState_Ensure();
    PyEval_SaveThread();
    owned_ = true;
  }
  ~ThreadState() {
    if (!owned_ || !interpreter_runs()) return;
    PyGILState_Ensure();
    PyGILState_Release(PyGILState_LOCKED);
    PyGILState_Release(first_);
  }

 private:
  PyGILState_STATE first_ = PyGILState_UNLOCKED;
  bool owned_ = false;
};

}  // namespace

bool interpreter_runs() { return !process_ends && Py_IsInitialized() != 0 && !python_ends(); }

void start_interpreter(const std::string& python) {
  static std::mutex mutex;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    // What is registered first runs last: after the destructors in libraries that the engine will load.
    static const int registered = std::atexit([] { process_ends = true; });
    static_cast<void>(registered);
    if (Py_IsInitialized() == 0) {
      initialize(choose_python(python));
      return;
    }
  }
  require_same_python(python);
}

GilLock::GilLock() {
  thread_local const ThreadState kept;
  static_cast<void>(kept);
  state_ = PyGILState_Ensure();
}

}  // namespace crowd
