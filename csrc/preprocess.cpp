#include "crowd/preprocess.h"

#include <algorithm>

#include "crowd/parallel.h"
#include "multiversion.h"

namespace crowd {
namespace {

constexpr Index kChannels = 3;
// Rows per task: few enough to balance the threads, enough that tasks are not handed out too often.
constexpr Index kRowsPerTask = 16;

// One row of a picture whose strides are known when compiling, so that it is read as one run of bytes.
template <typename Element>
CROWD_INLINE void look_up_row(const std::uint8_t* __restrict row, Index width,
                              const Element* __restrict table, Element* __restrict red, Index pixel_step,
                              Index channel_step, Index pixel_stride, Index channel_stride) {
  for (Index x = 0; x < width; ++x) {
    const std::uint8_t* pixel = row + x * pixel_stride;
    Element* out = red + x * pixel_step;
    for (Index c = 0; c < kChannels; ++c) out[c * channel_step] = table[pixel[c * channel_stride]];
  }
}

template <typename Element>
void convert_row(const PictureView& picture, Index y, const Element* table, const InputMap<Element>& out) {
  const Index pixel_step = out.channels_last ? kChannels : 1;
  const Index channel_step = out.channels_last ? 1 : out.height * out.width;
  Element* red = out.data + y * out.width * pixel_step;
  const Index inside = y < picture.height ? picture.width : 0;
  if (inside > 0) {
    const std::uint8_t* row = picture.data + y * picture.row_stride;
    const bool packed = picture.pixel_stride == kChannels && picture.channel_stride == 1;
    if (packed && out.channels_last) {
      look_up_row(row, inside, table, red, kChannels, 1, kChannels, 1);
    } else if (packed) {
      look_up_row(row, inside, table, red, 1, channel_step, kChannels, 1);
    } else {
      look_up_row(row, inside, table, red, pixel_step, channel_step, picture.pixel_stride,
                  picture.channel_stride);
    }
  }
  // The padding: one run of all channels, or one run of each.
  const Index runs = out.channels_last ? 1 : kChannels, length = (out.width - inside) * pixel_step;
  for (Index run = 0; run < runs; ++run) {
    Element* first = red + run * channel_step + inside * pixel_step;
    std::fill(first, first + length, Element{});
  }
}

template <typename Element>
void convert(const PictureView& picture, const Element* table, const InputMap<Element>& out, int threads) {
  if (out.width == 0) return;
  parallel_for((out.height + kRowsPerTask - 1) / kRowsPerTask, threads, [&](Index task, int) {
    const Index end = std::min(out.height, (task + 1) * kRowsPerTask);
    for (Index y = task * kRowsPerTask; y < end; ++y) convert_row(picture, y, table, out);
  });
}

}  // namespace

void preprocess(const PictureView& picture, const float* table, const InputMap<float>& out, int threads) {
  convert(picture, table, out, threads);
}

void preprocess(const PictureView& picture, const Bfloat16* table, const InputMap<Bfloat16>& out,
                int threads) {
  convert(picture, table, out, threads);
}

}  // namespace crowd
