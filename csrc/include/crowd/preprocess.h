#pragma once

#include <cstdint>

#include "crowd/tensor_view.h"

namespace crowd {

// Read-only view of a picture [H, W, 3] of bytes. Strides count bytes, and may be zero or negative.
struct PictureView {
  const std::uint8_t* data;
  Index height, width;
  Index row_stride, pixel_stride, channel_stride;
};

// Where the network's input lies and how it is laid out: [3, height, width], or [height, width, 3].
template <typename Element>
struct InputMap {
  Element* data;
  Index height, width;
  bool channels_last;
};

// Writes table[byte] for every byte of the picture, and zero to the right of it and below it.
//
// table: 256 elements, the normalised value of each byte. A table rather than arithmetic: every compiler and
// processor then gives the same bits, those that the table was rounded to.
// out: no smaller than the picture, overlapping neither the picture nor the table.
// threads: 0 for one per processor. The result does not depend on it.
void preprocess(const PictureView& picture, const float* table, const InputMap<float>& out, int threads = 0);
void preprocess(const PictureView& picture, const Bfloat16* table, const InputMap<Bfloat16>& out,
                int threads = 0);

}  // namespace crowd
