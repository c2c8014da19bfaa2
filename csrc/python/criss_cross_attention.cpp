#include "crowd/criss_cross_attention.h"

#include "arrays.h"
#include "register.h"

namespace crowd::python {
namespace {

void attend(const py::array& q, const py::array& k, const py::array& v, py::array out, int threads) {
  require_float32(q, "q", 4);
  require_float32(k, "k", 4);
  require_float32(v, "v", 4);
  require_float32(out, "out", 4);
  require_shape(k, "k", shape_of(q));
  require_shape(v, "v", {q.shape(0), q.shape(1), q.shape(2), v.shape(3)});
  require_shape(out, "out", shape_of(v));
  require_contiguous(out, "out");
  require_writable(out, "out");
  require_no_overlap(out, "out", q, "q");
  require_no_overlap(out, "out", k, "k");
  require_no_overlap(out, "out", v, "v");
  require_threads(threads);
  const TensorView q_view = tensor_view(q, "q"), k_view = tensor_view(k, "k"), v_view = tensor_view(v, "v");
  auto* result = static_cast<float*>(out.mutable_data());
  without_gil([&] { criss_cross_attention(q_view, k_view, v_view, result, threads); });
}

}  // namespace

void register_criss_cross_attention(py::module_& module) {
  module.def(
      "criss_cross_attention", &attend, py::arg("q").noconvert(), py::arg("k").noconvert(),
      py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("threads") = 0,
      "Write to out [B, H, W, C] the attention of each pixel to its own row and column.\n\n"
      "q, k: [B, H, W, D] and v: [B, H, W, C], float32, last axis contiguous (they may be views of one\n"
      "packed tensor); logits are not scaled. out: float32, C-contiguous, sharing no memory with them.\n"
      "threads: 0 for one per processor; the result does not depend on it. ValueError otherwise.");
}

}  // namespace crowd::python
