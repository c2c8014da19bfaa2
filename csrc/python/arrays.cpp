#include "arrays.h"

#include <cstdint>
#include <utility>

namespace crowd::python {
namespace {

// A bound that no machine needs to pass; it catches nonsense before so many threads are started.
constexpr int kMostThreads = 1024;

[[noreturn]] void reject(const char* name, const std::string& complaint) {
  throw py::value_error(std::string(name) + " " + complaint);
}

// First and one-past-last byte that the array can touch.
std::pair<std::uintptr_t, std::uintptr_t> byte_range(const py::array& array) {
  auto begin = reinterpret_cast<std::uintptr_t>(array.data()), end = begin + array.itemsize();
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    const py::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis);
    (reach < 0 ? begin : end) += static_cast<std::uintptr_t>(reach);
  }
  return {begin, end};
}

// `rank` axes, and every element aligned to its size.
void require_layout(const py::array& array, const char* name, py::ssize_t rank) {
  if (array.ndim() != rank) {
    reject(name, "must have " + std::to_string(rank) + " axes, got shape " + to_string(shape_of(array)));
  }
  const py::ssize_t size = array.itemsize();
  bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % static_cast<std::uintptr_t>(size) == 0;
  for (py::ssize_t axis = 0; axis < rank; ++axis) aligned = aligned && array.strides(axis) % size == 0;
  if (!aligned) reject(name, "must be aligned to " + std::to_string(size) + " bytes; pass a copy");
}

}  // namespace

Shape shape_of(const py::array& array) { return Shape(array.shape(), array.shape() + array.ndim()); }

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}

void require_float32(const py::array& array, const char* name, py::ssize_t rank) {
  if (!has_type<float>(array)) {
    reject(name, "must be float32, got " + std::string(py::str(array.dtype())) +
                     "; convert it with astype(numpy.float32)");
  }
  require_layout(array, name, rank);
}

ElementType require_float32_or_bfloat16(const py::array& array, const char* name, py::ssize_t rank) {
  const py::dtype type = array.dtype();
  const bool float32 = has_type<float>(array);
  // NumPy has no bfloat16 of its own.
  const bool bfloat16 = has_type<std::uint16_t>(array) ||
                        (type.itemsize() == 2 && type.attr("name").cast<std::string>() == "bfloat16");
  if (!float32 && !bfloat16) {
    reject(name, "must be float32 or bfloat16 (as uint16), got " + std::string(py::str(type)) +
                     "; convert it with astype(numpy.float32)");
  }
  require_layout(array, name, rank);
  return float32 ? ElementType::float32 : ElementType::bfloat16;
}

void require_shape(const py::array& array, const char* name, const Shape& expected) {
  if (shape_of(array) != expected) {
    reject(name, "must have shape " + to_string(expected) + ", got " + to_string(shape_of(array)));
  }
}

void require_contiguous(const py::array& array, const char* name) {
  if (!(array.flags() & py::array::c_style)) {
    reject(name, "must be C-contiguous, got shape " + to_string(shape_of(array)) + " with strides " +
                     to_string(Shape(array.strides(), array.strides() + array.ndim())) +
                     "; use numpy.ascontiguousarray");
  }
}

void require_contiguous_last_axis(const py::array& array, const char* name) {
  const int last = static_cast<int>(array.ndim()) - 1;
  if (array.size() > 0 && array.shape(last) > 1 && array.strides(last) != array.itemsize()) {
    reject(name, "must have a contiguous last axis, got a stride of " + std::to_string(array.strides(last)) +
                     " bytes; use numpy.ascontiguousarray");
  }
}

void require_writable(const py::array& array, const char* name) {
  if (!array.writeable()) reject(name, "is written to, but got a read-only array; pass a copy");
}

void require_no_overlap(const py::array& a, const char* a_name, const py::array& b, const char* b_name) {
  if (a.size() == 0 || b.size() == 0) return;
  const auto [a_begin, a_end] = byte_range(a);
  const auto [b_begin, b_end] = byte_range(b);
  if (a_begin < b_end && b_begin < a_end)
    reject(a_name, "must not share memory with " + std::string(b_name) + "; pass a copy");
}

void require_threads(int threads) {
  if (threads < 0 || threads > kMostThreads) {
    reject("threads", "must be 0 (one per processor) to " + std::to_string(kMostThreads) + ", got " +
                          std::to_string(threads));
  }
}

}  // namespace crowd::python
