#include "crowd/ddim_update.h"

#include <cmath>

#include "arrays.h"
#include "register.h"
#include "without_gil.h"

namespace crowd::python {
namespace {

using Numbers = py::array_t<double, py::array::c_style | py::array::forcecast>;

DdimCoefficients read_coefficients(const Numbers& numbers) {
  if (numbers.ndim() != 1 || numbers.size() != 6) {
    throw py::value_error(
        "coefficients must be 6 numbers (alpha, sigma, alpha_next, sigma_next, limit, change_weight), got "
        "shape " +
        to_string(shape_of(numbers)));
  }
  const double* c = numbers.data();
  for (int i = 0; i < 6; ++i) {
    if (std::isnan(c[i]))
      throw py::value_error("coefficients must be numbers, got NaN at index " + std::to_string(i));
  }
  if (c[4] < 0) throw py::value_error("limit must be at least 0, got " + std::to_string(c[4]));
  return {c[0], c[1], c[2], c[3], c[4], c[5]};
}

void update(py::array x_t, const py::array& x_0, py::array estimate, py::array change,
            const Numbers& coefficients, int threads) {
  struct Named {
    const py::array& array;
    const char* name;
  };
  const Named arrays[] = {{x_t, "x_t"}, {x_0, "x_0"}, {estimate, "estimate"}, {change, "change"}};
  for (const Named& a : arrays) {
    require_float32(a.array, a.name, x_t.ndim());
    require_shape(a.array, a.name, shape_of(x_t));
    require_contiguous(a.array, a.name);
    if (a.array.ptr() != x_0.ptr()) require_writable(a.array, a.name);
    for (const Named* b = arrays; b != &a; ++b) require_no_overlap(a.array, a.name, b->array, b->name);
  }
  require_threads(threads);
  const DdimCoefficients numbers = read_coefficients(coefficients);
  auto* x = static_cast<float*>(x_t.mutable_data());
  const auto* x0 = static_cast<const float*>(x_0.data());
  auto* e = static_cast<float*>(estimate.mutable_data());
  auto* c = static_cast<float*>(change.mutable_data());
  const Index size = x_t.size();
  without_gil([&] { ddim_update(x, x0, e, c, size, numbers, threads); });
}

}  // namespace

void register_ddim_update(py::module_& module) {
  module.def("ddim_update", &update, py::arg("x_t").noconvert(), py::arg("x_0").noconvert(),
             py::arg("estimate").noconvert(), py::arg("change").noconvert(), py::arg("coefficients"),
             py::arg("threads") = 0,
             "Make one deterministic DDIM step: update x_t, estimate and change in place.\n\n"
             "x_t, x_0, estimate, change: float32, C-contiguous, of one shape, sharing no memory; x_0 is "
             "only read.\n"
             "coefficients: (alpha, sigma, alpha_next, sigma_next, limit, change_weight).\n"
             "threads: 0 for one per processor; the result does not depend on it. ValueError otherwise.");
}

}  // namespace crowd::python
