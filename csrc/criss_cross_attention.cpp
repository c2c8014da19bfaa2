#include "crowd/criss_cross_attention.h"

#include <algorithm>
#include <memory>
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

template <int Panel>
CROWD_INLINE void attend_line(const Line& line, const Scratch& scratch, bool second) {
  const LineAttention<Panel> attention(line, scratch);
  second ? attention.template run<true>() : attention.template run<false>();
}

#if CROWD_X86_VERSIONS
CROWD_X86_V4 void attend_line_v4(const Line& line, const Scratch& scratch, bool second) {
  attend_line<64>(line, scratch, second);
}
CROWD_X86_V3 void attend_line_v3(const Line& line, const Scratch& scratch, bool second) {
  attend_line<16>(line, scratch, second);
}
#endif

// Two vectors of 4 per panel: fits the 16 registers of the oldest x86-64, and any ARM.
void attend_line_base(const Line& line, const Scratch& scratch, bool second) {
  attend_line<8>(line, scratch, second);
}

LineFunction best_version() {
#if CROWD_X86_VERSIONS
  if (__builtin_cpu_supports("x86-64-v4")) return attend_line_v4;
  if (__builtin_cpu_supports("x86-64-v3")) return attend_line_v3;
#endif
  return attend_line_base;
}

struct FreeAligned {
  void operator()(float* memory) const { ::operator delete(memory, kAlignment); }
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
  const Index batch = q.batch, height = q.height, width = q.width;
  if (batch == 0 || height == 0 || width == 0) return;
  State state{std::vector<float>(static_cast<std::size_t>(batch * height * width)),
              std::vector<float>(static_cast<std::size_t>(batch * height * width))};
  const Index longest = std::max(height, width);
  const Index floats = Scratch::floats(longest, q.channels, v.channels);
  const auto bytes = static_cast<std::size_t>(floats * resolve_threads(threads)) * sizeof(float);
  const std::unique_ptr<float, FreeAligned> memory(static_cast<float*>(::operator new(bytes, kAlignment)));

  const auto run_pass = [&](Index lines, bool second) {
    const Index groups = (lines + kLinesPerTask - 1) / kLinesPerTask;
    parallel_for(batch * groups, threads, [&](Index task, int worker) {
      const Scratch scratch(memory.get() + worker * floats, longest, q.channels, v.channels);
      const Index b = task / groups, first = task % groups * kLinesPerTask;
      for (Index i = first; i < std::min(lines, first + kLinesPerTask); ++i) {
        attend(second ? row(q, k, v, state, out, b, i) : column(q, k, v, state, out, b, i), scratch, second);
      }
    });
  };
  run_pass(width, false);
  run_pass(height, true);
}

}  // namespace crowd
