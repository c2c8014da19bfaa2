#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace crowd {

// Makes sure that a Python interpreter runs in this process; `python` as in Options.
void start_interpreter(const std::string& python);

// False once Python or the process has ended, or is about to, and in forked processes: nothing of Python may
// be touched then.
bool interpreter_runs();

// Called once there is an engine: in processes that are forked from then on, start_interpreter() and GilLock
// throw Error, as the engine would wait for threads that are not there.
void watch_forks();

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
