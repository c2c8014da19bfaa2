#pragma once

#include "crowd/tensor_view.h"

namespace crowd {

// Moves [B, C, H, W] to [B, H, W, C], with H and W as one axis of `pixels`: bits are moved, not values.
//
// Both arrays are contiguous and do not overlap. Element: std::uint16_t or std::uint32_t.
// threads: 0 for one per processor. The result does not depend on it.
template <typename Element>
void to_channels_last(const Element* in, Index batch, Index channels, Index pixels, Element* out,
                      int threads = 0);

}  // namespace crowd
