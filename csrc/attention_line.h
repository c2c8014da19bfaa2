#pragma once

#include "crowd/tensor_view.h"
#include "multiversion.h"

// Attention along one row or column: what its versions for several processors take and share.
namespace crowd {

// Queries whose probabilities are held at once: a panel of v is read from the outer cache once per block.
constexpr Index kBlockRows = 24;
// Every part of the scratch memory starts at, and is padded to, a multiple of so many words.
constexpr Index kPadding = 64;

// One input along a line: its element at the first pixel, the distance of neighbours, and the distance from a
// pixel to the same one of a line that may be prefetched.
template <typename Element>
struct Strip {
  const Element* at;
  Index stride, next;
};

// What a line computes, pixel by pixel: the online softmax's largest logit so far, its sum of weights
// relative to that, and its weighted, unnormalised values `acc`. The columns leave it; the rows finish it and
// write `out`, which `acc` may be.
template <typename Element>
struct State {
  float *maximum, *sum, *acc;
  Element* out;
  // Distance of neighbours in maximum and sum, and in acc and out.
  Index step, channel_step;
};

// One line of `length` pixels.
template <typename Element>
struct Line {
  Index length, depth, channels;
  Strip<Element> q, k, v;
  State<Element> state;
};

constexpr Index padded(Index size) { return (size + kPadding - 1) / kPadding * kPadding; }

// Scratch of one thread for lines of up to the given length, cut from one piece of 32-bit words. A word is a
// float, or two bfloat16.
struct Scratch {
  void *q, *k, *v, *weights;
  float* scores;

  static Index words(Index length, Index depth, Index channels) {
    return 2 * kBlockRows * padded(length) + (kBlockRows + padded(length)) * padded(depth) +
           padded(length) * padded(channels);
  }

  Scratch(float* memory, Index length, Index depth, Index channels)
      : q(memory),
        k(memory + kBlockRows * padded(depth)),
        v(memory + (kBlockRows + padded(length)) * padded(depth)),
        weights(memory + (kBlockRows + padded(length)) * padded(depth) + padded(length) * padded(channels)),
        scores(static_cast<float*>(weights) + kBlockRows * padded(length)) {}
};

// One pass over one line: the first over the columns, without the pixel itself, the second over the rows.
template <typename Element>
using LineFunction = void (*)(const Line<Element>&, const Scratch&, bool second);

void attend_line_portable(const Line<float>& line, const Scratch& scratch, bool second);
void attend_line_portable(const Line<Bfloat16>& line, const Scratch& scratch, bool second);
#if CROWD_X86_VERSIONS
void attend_line_avx2(const Line<float>& line, const Scratch& scratch, bool second);
void attend_line_avx2(const Line<Bfloat16>& line, const Scratch& scratch, bool second);
void attend_line_avx512(const Line<float>& line, const Scratch& scratch, bool second);
void attend_line_avx512(const Line<Bfloat16>& line, const Scratch& scratch, bool second);
#endif
#if CROWD_X86_BF16
void attend_line_avx512_bf16(const Line<Bfloat16>& line, const Scratch& scratch, bool second);
#endif

}  // namespace crowd
