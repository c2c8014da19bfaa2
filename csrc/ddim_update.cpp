#include "crowd/ddim_update.h"

#include <algorithm>
#include <cmath>

#include "crowd/parallel.h"
#include "multiversion.h"

namespace crowd {
namespace {

// Floats per task: four arrays of this length stay within a core's second-level cache.
constexpr Index kBlock = 32768;

// The step with its scalars combined: x_t' = keep * x_t + add * new.
struct Factors {
  float keep, add, limit, change_weight;
};

CROWD_MULTIVERSION
void update_block(float* __restrict x_t, const float* __restrict x_0, float* __restrict estimate,
                  float* __restrict change, Index size, Factors f) {
  for (Index i = 0; i < size; ++i) {
    // Written as comparisons so that NaN passes through, as in NumPy's clip.
    const float bounded = x_0[i] < -f.limit ? -f.limit : x_0[i];
    const float clamped = bounded > f.limit ? f.limit : bounded;
    x_t[i] = f.keep * x_t[i] + f.add * clamped;
    change[i] += f.change_weight * std::fabs(clamped - estimate[i]);
    estimate[i] = clamped;
  }
}

}  // namespace

void ddim_update(float* x_t, const float* x_0, float* estimate, float* change, Index size,
                 const DdimCoefficients& c, int threads) {
  const double keep = c.sigma_next / std::max(c.sigma, 1e-8);
  const Factors factors{static_cast<float>(keep), static_cast<float>(c.alpha_next - keep * c.alpha),
                        static_cast<float>(c.limit), static_cast<float>(c.change_weight)};
  parallel_for((size + kBlock - 1) / kBlock, threads, [&](Index task, int) {
    const Index begin = task * kBlock, length = std::min(kBlock, size - begin);
    update_block(x_t + begin, x_0 + begin, estimate + begin, change + begin, length, factors);
  });
}

}  // namespace crowd
