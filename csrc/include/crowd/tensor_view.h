#pragma once

#include <cstddef>

namespace crowd {

using Index = std::ptrdiff_t;

// Read-only view of a float32 tensor [B, H, W, C] whose last axis is contiguous. Strides count floats,
// and may be zero or negative.
struct TensorView {
  const float* data;
  Index batch, height, width, channels;
  Index batch_stride, row_stride, pixel_stride;

  const float* pixel(Index b, Index y, Index x) const {
    return data + b * batch_stride + y * row_stride + x * pixel_stride;
  }
};

}  // namespace crowd
