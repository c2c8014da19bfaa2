#include "crowd/preprocess.h"

#include <algorithm>

#include "arrays.h"
#include "register.h"
#include "without_gil.h"

namespace crowd::python {
namespace {

constexpr py::ssize_t kBytes = 256;

void require_picture(const py::array& image) {
  if (!has_type<std::uint8_t>(image) || image.ndim() != 3 || image.shape(2) != 3) {
    throw py::value_error("image must be uint8 [H, W, 3], got " + std::string(py::str(image.dtype())) + " " +
                          to_string(shape_of(image)));
  }
}

template <typename Element>
void run(const py::array& image, const py::array& table, py::array& out, bool channels_last, int threads) {
  const PictureView picture{static_cast<const std::uint8_t*>(image.data()),
                            image.shape(0),
                            image.shape(1),
                            image.strides(0),
                            image.strides(1),
                            image.strides(2)};
  const int first = channels_last ? 1 : 2;
  const InputMap<Element> map{static_cast<Element*>(out.mutable_data()), out.shape(first),
                              out.shape(first + 1), channels_last};
  const auto* values = static_cast<const Element*>(table.data());
  without_gil([&] { preprocess(picture, values, map, threads); });
}

void convert(const py::array& image, const py::array& table, py::array out, bool channels_last, int threads) {
  require_picture(image);
  const ElementType type = require_float32_or_bfloat16(out, "out", 4);
  if (require_float32_or_bfloat16(table, "table", 1) != type)
    throw py::value_error("table must have the type of out, got " + std::string(py::str(table.dtype())));
  require_shape(table, "table", {kBytes});
  require_contiguous(table, "table");
  const int first = channels_last ? 1 : 2;
  const py::ssize_t height = std::max(out.shape(first), image.shape(0));
  const py::ssize_t width = std::max(out.shape(first + 1), image.shape(1));
  require_shape(out, "out", channels_last ? Shape{1, height, width, 3} : Shape{1, 3, height, width});
  require_contiguous(out, "out");
  require_writable(out, "out");
  require_no_overlap(out, "out", image, "image");
  require_no_overlap(out, "out", table, "table");
  require_threads(threads);
  type == ElementType::float32 ? run<float>(image, table, out, channels_last, threads)
                               : run<Bfloat16>(image, table, out, channels_last, threads);
}

}  // namespace

void register_preprocess(py::module_& module) {
  module.def(
      "preprocess", &convert, py::arg("image").noconvert(), py::arg("table").noconvert(),
      py::arg("out").noconvert(), py::arg("channels_last") = false, py::arg("threads") = 0,
      "Write table[image] to out, and zero to the right of the picture and below it.\n\n"
      "image: uint8 [H, W, 3], any strides. table: [256]. out: [1, 3, H', W'], or [1, H', W', 3] with\n"
      "channels_last, C-contiguous, no smaller than the picture; of the type of table, float32 or bfloat16 "
      "as\n"
      "uint16. threads: 0 for one per processor; the result does not depend on it. ValueError otherwise.");
}

}  // namespace crowd::python
