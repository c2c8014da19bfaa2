#pragma once

#include <cstddef>
#include <cstdint>

namespace crowd {

using Index = std::ptrdiff_t;

// A bfloat16 number: the upper half of a float32.
struct Bfloat16 {
  std::uint16_t bits;
};

// Read-only view of a tensor [B, H, W, C] whose last axis is contiguous. Strides count elements, and may be
// zero or negative.
template <typename Element>
struct BasicTensorView {
  const Element* data;
  Index batch, height, width, channels;
  Index batch_stride, row_stride, pixel_stride;

  const Element* pixel(Index b, Index y, Index x) const {
    return data + b * batch_stride + y * row_stride + x * pixel_stride;
  }
};

using TensorView = BasicTensorView<float>;
using Bfloat16View = BasicTensorView<Bfloat16>;

}  // namespace crowd
