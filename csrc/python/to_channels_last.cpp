#include "crowd/to_channels_last.h"

#include <cstdint>

#include "arrays.h"
#include "register.h"
#include "without_gil.h"

namespace crowd::python {
namespace {

template <typename Element>
void run(const py::array& map, py::array& out, int threads) {
  const auto* in = static_cast<const Element*>(map.data());
  auto* to = static_cast<Element*>(out.mutable_data());
  const Index batch = map.shape(0), channels = map.shape(1), pixels = map.shape(2) * map.shape(3);
  without_gil([&] { to_channels_last(in, batch, channels, pixels, to, threads); });
}

void move(const py::array& map, py::array out, int threads) {
  const ElementType type = require_float32_or_bfloat16(map, "map", 4);
  if (require_float32_or_bfloat16(out, "out", 4) != type)
    throw py::value_error("out must have the type of map, got " + std::string(py::str(out.dtype())));
  require_shape(out, "out", {map.shape(0), map.shape(2), map.shape(3), map.shape(1)});
  require_contiguous(map, "map");
  require_contiguous(out, "out");
  require_writable(out, "out");
  require_no_overlap(out, "out", map, "map");
  require_threads(threads);
  type == ElementType::float32 ? run<std::uint32_t>(map, out, threads)
                               : run<std::uint16_t>(map, out, threads);
}

}  // namespace

void register_to_channels_last(py::module_& module) {
  module.def("to_channels_last", &move, py::arg("map").noconvert(), py::arg("out").noconvert(),
             py::arg("threads") = 0,
             "Write map [B, C, H, W] to out [B, H, W, C].\n\n"
             "Both C-contiguous and of one type, float32 or bfloat16 as uint16, sharing no memory.\n"
             "threads: 0 for one per processor; the result does not depend on it. ValueError otherwise.");
}

}  // namespace crowd::python
