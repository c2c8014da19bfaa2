#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "crowd/tensor_view.h"

// Checks of array arguments: each raises ValueError naming the argument, what was got and what was expected.
namespace crowd::python {

namespace py = pybind11;

using Shape = std::vector<py::ssize_t>;

Shape shape_of(const py::array& array);
std::string to_string(const Shape& shape);

// Whether the elements of an array are of this type, in native byte order. Not by identity: what was pickled
// has a type of its own.
template <typename Element>
bool has_type(const py::array& array) {
  return array.dtype().equal(py::dtype::of<Element>());
}

// float32 in native byte order, `rank` axes, aligned.
void require_float32(const py::array& array, const char* name, py::ssize_t rank);

enum class ElementType { float32, bfloat16 };

// The element type of an array of `rank` axes, aligned: float32, or bfloat16 as uint16 or as a type of that
// name (ml_dtypes), in native byte order.
ElementType require_float32_or_bfloat16(const py::array& array, const char* name, py::ssize_t rank);
void require_shape(const py::array& array, const char* name, const Shape& expected);
void require_contiguous(const py::array& array, const char* name);
void require_contiguous_last_axis(const py::array& array, const char* name);
void require_writable(const py::array& array, const char* name);
void require_no_overlap(const py::array& a, const char* a_name, const py::array& b, const char* b_name);
void require_threads(int threads);

// View of an array of 4 axes that has passed one of the first two checks, and holds elements of this size;
// its last axis must be contiguous.
template <typename Element>
BasicTensorView<Element> tensor_view(const py::array& array, const char* name) {
  require_contiguous_last_axis(array, name);
  const auto stride = [&](int axis) {
    return array.strides(axis) / static_cast<py::ssize_t>(sizeof(Element));
  };
  return {static_cast<const Element*>(array.data()),
          array.shape(0),
          array.shape(1),
          array.shape(2),
          array.shape(3),
          stride(0),
          stride(1),
          stride(2)};
}

}  // namespace crowd::python
