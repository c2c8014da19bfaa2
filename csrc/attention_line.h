#pragma once

#include "crowd/tensor_view.h"
#include "multiversion.h"

// Attention along one row or column: what its versions for several processors take and share.
namespace crowd {

// Queries whose probabilities are held at once: a panel of v is read from the outer cache once per block.
constexpr Index kBlockRows = 24;
// Every part of the scratch memory starts at, and is padded to, a multiple of so many words.
constexpr Index kPadding = 64;

// One line of pixels, `length` of them, each input with its own distance between neighbours. The state of
// the online softmax per pixel is the largest logit so far, the sum of the weights relative to it and, in
// `partial`, the weighted, unnormalised values. The columns leave it; the rows finish it and write `out`,
// which `partial` may be.
template <typename Element>
struct Line {
  Index length, depth, channels;
  const Element *q, *k, *v;
  Index q_stride, k_stride, v_stride;
  // From here to the same pixel of a line that may be prefetched.
  Index q_next, k_next, v_next;
  float *maximum, *sum, *partial;
  Element* out;
  // Distance of neighbours in maximum and sum, in partial and in out.
  Index state_step, partial_step, out_step;
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
