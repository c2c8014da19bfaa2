#pragma once

#include <pybind11/pybind11.h>

#include <exception>

namespace crowd::python {

// Takes the interpreter lock back; does not return once Python is exiting.
void take_gil(PyThreadState* state);

// Lets take_gil know when Python exits. Called once, when the module is made.
void watch_exit();

// Calls body without the interpreter lock.
//
// Unlike pybind11's guard it is safe in threads that are still at work when Python exits. Before 3.14, Python
// ends those that ask for the lock by unwinding their stacks, which a destructor on the way, or a function
// that may not throw, turns into an abort. Here they sleep until the process is gone, as they do from 3.14
// on.
template <typename Body>
void without_gil(const Body& body) {
  PyThreadState* state = PyEval_SaveThread();
  std::exception_ptr error;
  try {
    body();
  } catch (...) {
    error = std::current_exception();
  }
  take_gil(state);
  if (error) std::rethrow_exception(error);
}

}  // namespace crowd::python
