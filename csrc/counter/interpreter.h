#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace crowd {

// Makes sure that a Python interpreter runs in this process; `python` as in Options.
void start_interpreter(const std::string& python);

// False once Python or the process has ended, or is about to: nothing of Python may be touched then.
bool interpreter_runs();

// Holds the interpreter lock. The thread's Python state is kept until the thread ends, so that what the
// engine stores per thread (inference requests) is made once a thread, not once a call.
class GilLock {
 public:
  GilLock();
  ~GilLock() { PyGILState_Release(state_); }
  GilLock(const GilLock&) = delete;
  GilLock& operator=(const GilLock&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace crowd
