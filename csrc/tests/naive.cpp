#include "naive.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "bfloat16.h"

namespace crowd::naive {
namespace {

using Position = std::pair<Index, Index>;

// The pixel's row, then the rest of its column.
std::vector<Position> cross_of(Index y, Index x, Index height, Index width) {
  std::vector<Position> cross;
  for (Index j = 0; j < width; ++j) cross.emplace_back(y, j);
  for (Index i = 0; i < height; ++i) {
    if (i != y) cross.emplace_back(i, x);
  }
  return cross;
}

template <typename Element>
double dot(const Element* a, const Element* b, Index size) {
  double sum = 0;
  for (Index i = 0; i < size; ++i) sum += static_cast<double>(test::to_float(a[i])) * test::to_float(b[i]);
  return sum;
}

// NaN where one of the logits is NaN or +infinity, or all are -infinity.
std::vector<double> softmax(std::vector<double> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& logit : logits) sum += logit = std::exp(logit - largest);
  for (double& weight : logits) weight /= sum;
  return logits;
}

template <typename View>
void attend_pixel(const View& q, const View& k, const View& v, Index b, Index y, Index x, double* out) {
  const std::vector<Position> cross = cross_of(y, x, q.height, q.width);
  std::vector<double> logits;
  for (const auto& [i, j] : cross) logits.push_back(dot(q.pixel(b, y, x), k.pixel(b, i, j), q.channels));
  const std::vector<double> weights = softmax(std::move(logits));
  for (std::size_t p = 0; p < cross.size(); ++p) {
    const auto* value = v.pixel(b, cross[p].first, cross[p].second);
    for (Index c = 0; c < v.channels; ++c) out[c] += weights[p] * test::to_float(value[c]);
  }
}

template <typename View>
std::vector<double> attend(const View& q, const View& k, const View& v) {
  std::vector<double> out(static_cast<std::size_t>(q.batch * q.height * q.width * v.channels));
  double* pixel = out.data();
  for (Index b = 0; b < q.batch; ++b) {
    for (Index y = 0; y < q.height; ++y) {
      for (Index x = 0; x < q.width; ++x, pixel += v.channels) attend_pixel(q, k, v, b, y, x, pixel);
    }
  }
  return out;
}

float at(const std::vector<float>& map, Index height, Index width, Index y, Index x) {
  const bool inside = y >= 0 && y < height && x >= 0 && x < width;
  return inside ? map[static_cast<std::size_t>(y * width + x)] : std::numeric_limits<float>::quiet_NaN();
}

double vertex(double before, double centre, double after) {
  const double denominator = 2 * (2 * centre - before - after);
  if (!std::isfinite(denominator) || denominator <= 0) return 0;
  return std::clamp((after - before) / denominator, -0.5, 0.5);
}

}  // namespace

std::vector<double> criss_cross_attention(const TensorView& q, const TensorView& k, const TensorView& v) {
  return attend(q, k, v);
}

std::vector<double> criss_cross_attention(const Bfloat16View& q, const Bfloat16View& k,
                                          const Bfloat16View& v) {
  return attend(q, k, v);
}

DdimStep ddim_update(const std::vector<float>& x_t, const std::vector<float>& x_0,
                     const std::vector<float>& estimate, const std::vector<float>& change,
                     const DdimCoefficients& c) {
  DdimStep step;
  for (std::size_t i = 0; i < x_t.size(); ++i) {
    const double clean = std::isnan(x_0[i]) ? x_0[i] : std::clamp<double>(x_0[i], -c.limit, c.limit);
    const double noise = (x_t[i] - c.alpha * clean) / std::max(c.sigma, 1e-8);
    step.x_t.push_back(c.alpha_next * clean + c.sigma_next * noise);
    step.estimate.push_back(clean);
    step.change.push_back(change[i] + c.change_weight * std::abs(clean - estimate[i]));
  }
  return step;
}

std::vector<Peak> find_peaks(const std::vector<float>& heatmap, Index height, Index width, double threshold) {
  const auto cell = [&](Index y, Index x) { return at(heatmap, height, width, y, x); };
  std::vector<Peak> peaks;
  for (Index y = 0; y < height; ++y) {
    for (Index x = 0; x < width; ++x) {
      const float value = cell(y, x);
      bool is_peak = value >= threshold && value > -std::numeric_limits<float>::infinity();
      for (Index dy = -1; dy <= 1; ++dy) {
        for (Index dx = -1; dx <= 1; ++dx) {
          const bool earlier = dy < 0 || (dy == 0 && dx < 0), itself = dy == 0 && dx == 0;
          const float other = cell(y + dy, x + dx);
          if (!itself && (other > value || (earlier && other == value))) is_peak = false;
        }
      }
      if (!is_peak) continue;
      const double dx = vertex(cell(y, x - 1), value, cell(y, x + 1));
      const double dy = vertex(cell(y - 1, x), value, cell(y + 1, x));
      peaks.push_back({static_cast<float>(static_cast<double>(x) + 0.5 + dx),
                       static_cast<float>(static_cast<double>(y) + 0.5 + dy), value});
    }
  }
  return peaks;
}

}  // namespace crowd::naive
