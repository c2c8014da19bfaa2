#include "interpreter.h"

#include <pybind11/embed.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <system_error>

#include "convert.h"
#include "crowd/counter.h"

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace crowd {
namespace {

namespace fs = std::filesystem;
namespace py = pybind11;

// Set once the libraries that the engine has loaded since are gone.
std::atomic<bool> process_ends{false};
// Set in a process that was forked from one with an engine. Python has hooks for this, but not for fork() of
// C.
std::atomic<bool> forked{false};

#ifdef _WIN32
constexpr const char* kPythonOfVenv = "Scripts/python.exe";
#else
constexpr const char* kPythonOfVenv = "bin/python";
#endif

// Not resolved: python of a virtual environment is a link to one that knows nothing of it.
fs::path plain(const fs::path& path) {
  // There is no absolute path for an empty one, nor within a folder that is gone.
  std::error_code none;
  const fs::path absolute = fs::absolute(path, none);
  return (none ? path : absolute).lexically_normal();
}

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

void refuse_forked() {
  if (!forked) return;
  throw Error(
      "BackendError",
      "a Counter was made in the process that this one was forked from; its threads are not in this one; "
      "start processes that execute a program, or make the first Counter after the fork");
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

Error does_not_start(const std::string& reason) {
  return Error("EngineError",
               "Python " PY_VERSION " does not start (" + reason +
                   "); check PYTHONHOME, and that Options::python or VIRTUAL_ENV is of this version");
}

void set_path(PyConfig& config, wchar_t*& field, const fs::path& path) {
#ifdef _WIN32
  const PyStatus status = PyConfig_SetString(&config, &field, path.c_str());
#else
  // Python's own decoding, which takes any bytes. Not path.wstring(): libstdc++'s takes ASCII alone.
  const PyStatus status = PyConfig_SetBytesString(&config, &field, path.c_str());
#endif
  if (PyStatus_Exception(status) == 0) return;
  PyConfig_Clear(&config);
  throw does_not_start(status.err_msg != nullptr ? status.err_msg : "no reason given");
}

void initialize(const fs::path& python) {
  publish_python_symbols();
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.parse_argv = 0;
  // Ctrl-C stays with the program.
  config.install_signal_handlers = 0;
  if (!python.empty()) {
    set_path(config, config.program_name, python);
    set_path(config, config.executable, python);
  }
  try {
    py::initialize_interpreter(&config, 0, nullptr, /*add_program_dir_to_path=*/false);
  } catch (const std::exception& error) {
    throw does_not_start(error.what());
  }
  // Never ended: at exit other threads may be counting, and what they hold would outlive it.
  PyEval_SaveThread();
}

// The file that this process's Python was started as; empty where a host's does not say.
std::string running_python() {
  const GilLock lock;
  try {
    const py::object executable = py::module_::import("sys").attr("executable");
    return py::isinstance<py::str>(executable) ? to_file_bytes(executable) : "";
  } catch (const py::error_already_set& error) {
    throw to_error(error);
  }
}

// A host's interpreter, or that of an earlier counter, cannot be exchanged for another.
void require_same_python(const std::string& python) {
  if (python.empty()) return;
  const std::string running = running_python();
  if (plain(running) != plain(python)) {
    throw Error("ConfigError", "Options::python is " + python + ", but this process runs " +
                                   (running.empty() ? "a Python of unknown place" : running) +
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

bool interpreter_runs() { return !process_ends && !forked && Py_IsInitialized() != 0 && !python_ends(); }

void start_interpreter(const std::string& python) {
  refuse_forked();
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

void watch_forks() {
#if defined(__unix__) || defined(__APPLE__)
  static const int watched = pthread_atfork(nullptr, nullptr, [] { forked = true; });
  static_cast<void>(watched);
#endif
}

GilLock::GilLock() {
  refuse_forked();
  thread_local const ThreadState kept;
  static_cast<void>(kept);
  state_ = PyGILState_Ensure();
}

}  // namespace crowd
