#pragma once

#include <vector>

#include "crowd/ddim_update.h"
#include "crowd/find_peaks.h"
#include "crowd/tensor_view.h"

// The kernels as their headers define them: in double, one value after the other.
namespace crowd::naive {

// [B, H, W, C]
std::vector<double> criss_cross_attention(const TensorView& q, const TensorView& k, const TensorView& v);
std::vector<double> criss_cross_attention(const Bfloat16View& q, const Bfloat16View& k,
                                          const Bfloat16View& v);

struct DdimStep {
  std::vector<double> x_t, estimate, change;
};

DdimStep ddim_update(const std::vector<float>& x_t, const std::vector<float>& x_0,
                     const std::vector<float>& estimate, const std::vector<float>& change,
                     const DdimCoefficients& coefficients);

std::vector<Peak> find_peaks(const std::vector<float>& heatmap, Index height, Index width, double threshold);

}  // namespace crowd::naive
