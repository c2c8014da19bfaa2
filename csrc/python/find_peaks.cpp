#include "crowd/find_peaks.h"

#include <cmath>

#include "arrays.h"
#include "register.h"
#include "without_gil.h"

namespace crowd::python {
namespace {

py::tuple peaks(const py::array& heatmap, double threshold, int threads) {
  require_float32(heatmap, "heatmap", 2);
  require_contiguous(heatmap, "heatmap");
  if (std::isnan(threshold)) throw py::value_error("threshold must be a number, got NaN");
  require_threads(threads);
  const auto* data = static_cast<const float*>(heatmap.data());
  const Index height = heatmap.shape(0), width = heatmap.shape(1);
  std::vector<Peak> found;
  without_gil([&] { found = find_peaks(data, height, width, threshold, threads); });
  const auto count = static_cast<py::ssize_t>(found.size());
  py::array_t<float> points(Shape{count, 2}), scores(Shape{count});
  auto point = points.mutable_unchecked<2>();
  auto score = scores.mutable_unchecked<1>();
  for (py::ssize_t i = 0; i < count; ++i) {
    const Peak& peak = found[static_cast<std::size_t>(i)];
    point(i, 0) = peak.x;
    point(i, 1) = peak.y;
    score(i) = peak.score;
  }
  return py::make_tuple(points, scores);
}

}  // namespace

void register_find_peaks(py::module_& module) {
  module.def(
      "find_peaks", &peaks, py::arg("heatmap").noconvert(), py::arg("threshold"), py::arg("threads") = 0,
      "Find the 3x3 local maxima of heatmap that reach threshold, in raster order.\n\n"
      "heatmap: float32 [h, w], C-contiguous. Returns points, float32 [N, 2] as (x, y) in cells (the centre\n"
      "of the first cell is (0.5, 0.5)), and scores, float32 [N].\n"
      "threads: 0 for one per processor; the result does not depend on it. ValueError otherwise.");
}

}  // namespace crowd::python
