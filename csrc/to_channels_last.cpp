#include "crowd/to_channels_last.h"

#include <algorithm>
#include <cstdint>

#include "crowd/parallel.h"

namespace crowd {
namespace {

// Pixels per task, whose channels a core's second-level cache holds; and channels at once, whose rows the
// first-level cache holds even where they are a multiple of its size apart.
constexpr Index kTask = 256, kGroup = 8;

template <typename Element>
void move_pixels(const Element* in, Index channels, Index pixels, Index begin, Index end, Element* out) {
  for (Index group = 0; group < channels; group += kGroup) {
    const Index size = std::min(kGroup, channels - group);
    const Element* const from = in + group * pixels;
    Element* const to = out + group;
    for (Index pixel = begin; pixel < end; ++pixel) {
      for (Index c = 0; c < size; ++c) to[pixel * channels + c] = from[c * pixels + pixel];
    }
  }
}

}  // namespace

template <typename Element>
void to_channels_last(const Element* in, Index batch, Index channels, Index pixels, Element* out,
                      int threads) {
  if (channels == 0) return;
  const Index tasks = (pixels + kTask - 1) / kTask;
  parallel_for(batch * tasks, threads, [&](Index task, int) {
    const Index image = task / tasks * channels * pixels, begin = task % tasks * kTask;
    move_pixels(in + image, channels, pixels, begin, std::min(begin + kTask, pixels), out + image);
  });
}

template void to_channels_last(const std::uint16_t*, Index, Index, Index, std::uint16_t*, int);
template void to_channels_last(const std::uint32_t*, Index, Index, Index, std::uint32_t*, int);

}  // namespace crowd
