#include "crowd/criss_cross_attention.h"

#include <algorithm>
#include <new>
#include <vector>

#include "attention_line.h"
#include "crowd/parallel.h"

namespace crowd {
namespace {

// Lines per task: few enough to balance the threads, enough that tasks are not handed out too often.
constexpr Index kLinesPerTask = 4;
constexpr std::align_val_t kAlignment{64};

using LineFunction = void (*)(const Line&, const Scratch&, bool second);

template <int Panel, int TileRows>
CROWD_INLINE void attend_line(const Line& line, const Scratch& scratch, bool second) {
  const LineAttention<Panel, TileRows> attention(line, scratch);
  second ? attention.template run<true>() : attention.template run<false>();
}

// A tile's sums fill most of the vector registers: 6 x 64 floats are 24 of AVX-512's 32, 2 x 32 floats 8 of
// AVX2's 16. Narrower panels are slower by far: GCC unrolls their loops before it looks for vectors.
#if CROWD_X86_VERSIONS
CROWD_X86_V4 void attend_line_v4(const Line& line, const Scratch& scratch, bool second) {
  attend_line<64, 6>(line, scratch, second);
}
CROWD_X86_V3 void attend_line_v3(const Line& line, const Scratch& scratch, bool second) {
  attend_line<32, 2>(line, scratch, second);
}
#endif

void attend_line_base(const Line& line, const Scratch& scratch, bool second) {
  attend_line<32, 2>(line, scratch, second);
}

LineFunction best_version() {
#if CROWD_X86_VERSIONS
  if (__builtin_cpu_supports("x86-64-v4")) return attend_line_v4;
  if (__builtin_cpu_supports("x86-64-v3")) return attend_line_v3;
#endif
  return attend_line_base;
}

// Uninitialised floats at an address that whole vectors can be read from.
class AlignedMemory {
 public:
  explicit AlignedMemory(Index size)
      : data_(
            static_cast<float*>(::operator new(static_cast<std::size_t>(size) * sizeof(float), kAlignment))) {
  }
  AlignedMemory(const AlignedMemory&) = delete;
  AlignedMemory& operator=(const AlignedMemory&) = delete;
  ~AlignedMemory() { ::operator delete(data_, kAlignment); }

  float* data() const { return data_; }

 private:
  float* data_;
};

// State of the online softmax per pixel, [B, H, W].
struct State {
  std::vector<float> maximum, sum;
};

Line column(const TensorView& q, const TensorView& k, const TensorView& v, State& state, float* out, Index b,
            Index x) {
  const Index pixel = b * q.height * q.width + x;
  return {q.height,
          q.channels,
          v.channels,
          q.pixel(b, 0, x),
          k.pixel(b, 0, x),
          v.pixel(b, 0, x),
          q.row_stride,
          k.row_stride,
          v.row_stride,
          state.maximum.data() + pixel,
          state.sum.data() + pixel,
          out + pixel * v.channels,
          q.width,
          q.width * v.channels};
}

Line row(const TensorView& q, const TensorView& k, const TensorView& v, State& state, float* out, Index b,
         Index y) {
  const Index pixel = (b * q.height + y) * q.width;
  return {q.width,
          q.channels,
          v.channels,
          q.pixel(b, y, 0),
          k.pixel(b, y, 0),
          v.pixel(b, y, 0),
          q.pixel_stride,
          k.pixel_stride,
          v.pixel_stride,
          state.maximum.data() + pixel,
          state.sum.data() + pixel,
          out + pixel * v.channels,
          1,
          v.channels};
}

}  // namespace

void criss_cross_attention(const TensorView& q, const TensorView& k, const TensorView& v, float* out,
                           int threads) {
  static const LineFunction attend = best_version();
  const Index batch = q.batch, height = q.height, width = q.width, longest = std::max(height, width);
  if (batch == 0 || height == 0 || width == 0) return;
  const auto pixels = static_cast<std::size_t>(batch * height * width);
  State state{std::vector<float>(pixels), std::vector<float>(pixels)};
  // Groups of lines, in each image of the batch.
  const auto groups = [](Index lines) { return (lines + kLinesPerTask - 1) / kLinesPerTask; };
  const Index floats = Scratch::floats(longest, q.channels, v.channels);
  const AlignedMemory memory(floats * count_workers(batch * groups(longest), threads));

  const auto run_pass = [&](Index lines, bool second) {
    parallel_for(batch * groups(lines), threads, [&](Index task, int worker) {
      const Scratch scratch(memory.data() + worker * floats, longest, q.channels, v.channels);
      const Index b = task / groups(lines), first = task % groups(lines) * kLinesPerTask;
      for (Index i = first; i < std::min(lines, first + kLinesPerTask); ++i) {
        attend(second ? row(q, k, v, state, out, b, i) : column(q, k, v, state, out, b, i), scratch, second);
      }
    });
  };
  run_pass(width, false);
  run_pass(height, true);
}

}  // namespace crowd
