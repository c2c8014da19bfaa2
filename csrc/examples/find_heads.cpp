// The kernels without Python: finds the peaks of a heat map with three heads drawn into it.

#include <cmath>
#include <cstdio>
#include <vector>

#include "crowd/find_peaks.h"

int main() {
  constexpr crowd::Index height = 40, width = 60;
  const crowd::Peak heads[] = {{10.5f, 8.25f, 1.0f}, {31.0f, 8.0f, 0.75f}, {47.75f, 30.5f, 0.5f}};
  std::vector<float> heatmap(height * width);
  for (crowd::Index y = 0; y < height; ++y) {
    for (crowd::Index x = 0; x < width; ++x) {
      for (const crowd::Peak& head : heads) {
        const float dx = static_cast<float>(x) + 0.5f - head.x, dy = static_cast<float>(y) + 0.5f - head.y;
        float& cell = heatmap[static_cast<std::size_t>(y * width + x)];
        cell = std::fmax(cell, head.score * std::exp(-(dx * dx + dy * dy) / 8));
      }
    }
  }
  for (const crowd::Peak& peak : crowd::find_peaks(heatmap.data(), height, width, 0.3)) {
    std::printf("%.1f %.1f %.2f\n", peak.x, peak.y, peak.score);
  }
}
