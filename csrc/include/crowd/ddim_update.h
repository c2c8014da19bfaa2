#pragma once

#include "crowd/tensor_view.h"

namespace crowd {

// What one deterministic DDIM step needs: signal and noise scale before and after it, the bound of the
// map's values, and the weight of this step in the uncertainty map.
struct DdimCoefficients {
  double alpha, sigma, alpha_next, sigma_next, limit, change_weight;
};

// One DDIM step (eta = 0) in place, in one pass over memory.
//
//   new      = clamp(x_0, -limit, limit)
//   noise    = (x_t - alpha * new) / max(sigma, 1e-8)
//   x_t      = alpha_next * new + sigma_next * noise
//   change  += change_weight * |new - estimate|
//   estimate = new
//
// All arrays hold `size` floats and do not overlap. NaN stays NaN.
// threads: 0 for one per processor. The result does not depend on it.
void ddim_update(float* x_t, const float* x_0, float* estimate, float* change, Index size,
                 const DdimCoefficients& coefficients, int threads = 0);

}  // namespace crowd
