#include "crowd/find_peaks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "crowd/parallel.h"
#include "multiversion.h"

namespace crowd {
namespace {

constexpr float kLargest = std::numeric_limits<float>::max();
// Cells per task, so that small maps are not worth a second thread.
constexpr Index kCellsPerTask = 16384;
// Cells that are compared with the threshold at once before any is looked at closer.
constexpr Index kGroup = 64;

// The smallest finite float that is not below the threshold: comparing floats with it is exact.
float float_threshold(double threshold) {
  if (threshold > kLargest) return std::numeric_limits<float>::infinity();
  if (threshold <= -kLargest) return -kLargest;
  const float nearest = static_cast<float>(threshold);
  return nearest < threshold ? std::nextafter(nearest, kLargest) : nearest;
}

CROWD_MULTIVERSION
bool any_reaches(const float* cells, float threshold) {
  int found = 0;
  for (Index i = 0; i < kGroup; ++i) found |= cells[i] >= threshold;
  return found != 0;
}

struct Map {
  const float* data;
  Index height, width;

  // NaN outside the map: no comparison with it holds, just as for a NaN neighbour.
  float at(Index y, Index x) const {
    const bool inside = y >= 0 && y < height && x >= 0 && x < width;
    return inside ? data[y * width + x] : std::numeric_limits<float>::quiet_NaN();
  }

  bool is_peak(Index y, Index x) const {
    const float value = at(y, x);
    const bool beaten_before = at(y - 1, x - 1) >= value || at(y - 1, x) >= value ||
                               at(y - 1, x + 1) >= value || at(y, x - 1) >= value;
    const bool beaten_after =
        at(y, x + 1) > value || at(y + 1, x - 1) > value || at(y + 1, x) > value || at(y + 1, x + 1) > value;
    return !beaten_before && !beaten_after;
  }
};

// Vertex of the parabola through three neighbouring values, relative to the middle one.
double parabola_offset(double before, double centre, double after) {
  const double curvature = 2 * (2 * centre - before - after);
  // False for NaN too, hence for a missing neighbour.
  if (!(curvature > 0 && std::isfinite(curvature))) return 0;
  return std::min(0.5, std::max(-0.5, (after - before) / curvature));
}

Peak refine(const Map& map, Index y, Index x) {
  const float centre = map.at(y, x);
  const double dx = parabola_offset(map.at(y, x - 1), centre, map.at(y, x + 1));
  const double dy = parabola_offset(map.at(y - 1, x), centre, map.at(y + 1, x));
  return {static_cast<float>(static_cast<double>(x) + 0.5 + dx),
          static_cast<float>(static_cast<double>(y) + 0.5 + dy), centre};
}

void scan_row(const Map& map, Index y, float threshold, std::vector<Peak>& peaks) {
  const float* row = map.data + y * map.width;
  for (Index begin = 0; begin < map.width; begin += kGroup) {
    const Index end = std::min(begin + kGroup, map.width);
    if (end - begin == kGroup && !any_reaches(row + begin, threshold)) continue;
    for (Index x = begin; x < end; ++x) {
      if (row[x] >= threshold && map.is_peak(y, x)) peaks.push_back(refine(map, y, x));
    }
  }
}

}  // namespace

std::vector<Peak> find_peaks(const float* heatmap, Index height, Index width, double threshold, int threads) {
  if (height == 0 || width == 0) return {};
  const Map map{heatmap, height, width};
  const float lowest = float_threshold(threshold);
  const Index rows = std::max<Index>(1, kCellsPerTask / width), tasks = (height + rows - 1) / rows;
  std::vector<std::vector<Peak>> found(static_cast<std::size_t>(tasks));
  parallel_for(tasks, threads, [&](Index task, int) {
    std::vector<Peak>& peaks = found[static_cast<std::size_t>(task)];
    for (Index y = task * rows; y < std::min(height, (task + 1) * rows); ++y) scan_row(map, y, lowest, peaks);
  });
  std::vector<Peak> all = std::move(found[0]);
  for (Index task = 1; task < tasks; ++task) {
    const std::vector<Peak>& peaks = found[static_cast<std::size_t>(task)];
    all.insert(all.end(), peaks.begin(), peaks.end());
  }
  return all;
}

}  // namespace crowd
