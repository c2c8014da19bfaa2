#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <exception>
#include <string>
#include <vector>

#include "crowd/tensor_view.h"

// Checks of array arguments: each raises ValueError naming the argument, what was got and what was expected.
namespace crowd::python {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

Shape shape_of(const py::array& array);
std::string to_string(const Shape& shape);

// float32 in native byte order, `rank` axes, aligned.
void require_float32(const py::array& array, const char* name, py::ssize_t rank);
void require_shape(const py::array& array, const char* name, const Shape& expected);
void require_contiguous(const py::array& array, const char* name);
void require_writable(const py::array& array, const char* name);
void require_no_overlap(const py::array& a, const char* a_name, const py::array& b, const char* b_name);
void require_threads(int threads);

// View of an array that has passed require_float32(..., 4); its last axis must be contiguous.
TensorView tensor_view(const py::array& array, const char* name);

// Calls body without the interpreter lock. Unlike pybind11's guard it takes the lock back outside of any
// destructor: at exit Python ends other threads there by unwinding them, which a destructor turns into an
// abort.
template <typename Body>
void without_gil(const Body& body) {
  PyThreadState* state = PyEval_SaveThread();
  std::exception_ptr error;
  try {
    body();
  } catch (...) {
    error = std::current_exception();
  }
  PyEval_RestoreThread(state);
  if (error) std::rethrow_exception(error);
}

}  // namespace crowd::python
