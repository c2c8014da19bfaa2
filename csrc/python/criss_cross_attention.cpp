#include "crowd/criss_cross_attention.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "arrays.h"
#include "register.h"
#include "without_gil.h"

namespace crowd::python {
namespace {

const char* to_string(ElementType type) { return type == ElementType::float32 ? "float32" : "bfloat16"; }

ElementType require_one_type(const py::array& q, const py::array& k, const py::array& v,
                             const py::array& out) {
  const ElementType type = require_float32_or_bfloat16(q, "q", 4);
  const auto require_same = [type](const py::array& array, const char* name) {
    const ElementType got = require_float32_or_bfloat16(array, name, 4);
    if (got != type) {
      throw py::value_error(std::string(name) + " must be " + to_string(type) + " like q, got " +
                            to_string(got) + "; q, k, v and out have one type");
    }
  };
  require_same(k, "k");
  require_same(v, "v");
  require_same(out, "out");
  return type;
}

template <typename Element>
void attend_as(const py::array& q, const py::array& k, const py::array& v, py::array& out, int threads,
               const char* version) {
  const auto q_view = tensor_view<Element>(q, "q"), k_view = tensor_view<Element>(k, "k");
  const auto v_view = tensor_view<Element>(v, "v");
  auto* result = static_cast<Element*>(out.mutable_data());
  without_gil([&] { criss_cross_attention(q_view, k_view, v_view, result, threads, version); });
}

void attend(const py::array& q, const py::array& k, const py::array& v, py::array out, int threads,
            std::optional<std::string> version) {
  const ElementType type = require_one_type(q, k, v, out);
  require_shape(k, "k", shape_of(q));
  require_shape(v, "v", {q.shape(0), q.shape(1), q.shape(2), v.shape(3)});
  require_shape(out, "out", shape_of(v));
  require_contiguous(out, "out");
  require_writable(out, "out");
  require_no_overlap(out, "out", q, "q");
  require_no_overlap(out, "out", k, "k");
  require_no_overlap(out, "out", v, "v");
  require_threads(threads);
  const char* name = version ? version->c_str() : nullptr;
  type == ElementType::float32 ? attend_as<float>(q, k, v, out, threads, name)
                               : attend_as<Bfloat16>(q, k, v, out, threads, name);
}

}  // namespace

void register_criss_cross_attention(py::module_& module) {
  module.def(
      "criss_cross_attention", &attend, py::arg("q").noconvert(), py::arg("k").noconvert(),
      py::arg("v").noconvert(), py::arg("out").noconvert(), py::arg("threads") = 0,
      py::arg("version") = py::none(),
      "Write to out [B, H, W, C] the attention of each pixel to its own row and column.\n\n"
      "q, k: [B, H, W, D] and v: [B, H, W, C], last axis contiguous (they may be views of one packed\n"
      "tensor); logits are not scaled. out: C-contiguous, sharing no memory with them. All float32, or\n"
      "all bfloat16 (uint16 holding its bits, or ml_dtypes.bfloat16), with logits and sums in float32.\n"
      "threads: 0 for one per processor; the result does not depend on it. version: one of\n"
      "attention_versions, None for the fastest. ValueError otherwise.");
  module.def(
      "attention_versions",
      [](const std::string& type) {
        if (type != "float32" && type != "bfloat16") {
          throw py::value_error("type must be float32 or bfloat16, got " + type);
        }
        return type == "float32" ? attention_versions<float>() : attention_versions<Bfloat16>();
      },
      py::arg("type"),
      "The versions of criss_cross_attention that this processor can run, the fastest first.");
}

}  // namespace crowd::python
