#include <cstring>

#include "multiversion.h"

#define CROWD_SIMD CROWD_INLINE

#include "attention_kernel.h"

namespace crowd {
namespace {

#if defined(__GNUC__)
// Vectors of 16 bytes, in the registers of whatever processor the library is compiled for.
using Floats = float __attribute__((vector_size(16)));
using Bits = std::uint32_t __attribute__((vector_size(16)));
#else
using Floats = float;
using Bits = std::uint32_t;
#endif

// What LineAttention computes with: vectors of floats; words of kPerWord elements of a sum and vectors of
// them; how large a tile is; and the functions below.
struct Portable {
  using Vector = Floats;
  using Word = float;
  using Words = Vector;
  static constexpr int kLanes = sizeof(Vector) / sizeof(float);
  static constexpr int kPerWord = 1;
  // Vectors in a panel of columns, and rows of the two heights of a tile.
  static constexpr int kPanelVectors = 2;
  static constexpr int kTileRows = 6;
  static constexpr int kLowTileRows = 4;

  // Zero is taken away: to add it would take an instruction, as it makes 0 of -0.
  static CROWD_SIMD Vector set(float x) { return x - Vector{}; }
  static CROWD_SIMD Vector add(Vector a, Vector b) { return a + b; }
  static CROWD_SIMD Vector sub(Vector a, Vector b) { return a - b; }
  static CROWD_SIMD Vector mul(Vector a, Vector b) { return a * b; }
  static CROWD_SIMD Vector fma(Vector a, Vector b, Vector c) { return a * b + c; }
  // b where either is NaN.
  static CROWD_SIMD Vector max(Vector a, Vector b) { return a > b ? a : b; }

  static CROWD_SIMD Vector load(const float* p) {
    Vector x;
    std::memcpy(&x, p, sizeof(x));
    return x;
  }
  static CROWD_SIMD void store(float* p, Vector x) { std::memcpy(p, &x, sizeof(x)); }

  static CROWD_SIMD float first(Vector x) {
    float lanes[kLanes];
    store(lanes, x);
    return lanes[0];
  }

  static CROWD_SIMD float reduce_max(Vector x) {
    float lanes[kLanes];
    store(lanes, x);
    for (int i = 1; i < kLanes; ++i) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
  }

  static CROWD_SIMD float reduce_sum(Vector x) {
    float lanes[kLanes];
    store(lanes, x);
    for (int i = 1; i < kLanes; ++i) lanes[0] += lanes[i];
    return lanes[0];
  }

  // e^x for x <= 0, to 2e-7 and the rounding of x, by e^x = 2^n 2^f. Below e^-88, where float32 has no more
  // normal numbers, it is 0. Free of branches and of library calls.
  static CROWD_SIMD Vector exp(Vector x) {
    // Adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits; with 127 it is an exponent.
    const Vector round = set(12582912.0f + 127.0f);
    const Vector log2_x = max(set(-88.0296919f), x) * set(1.44269504f);
    const Vector rounded = log2_x + round;
    const Vector f = log2_x - (rounded - round);
    Bits bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    bits <<= 23;
    Vector power;
    std::memcpy(&power, &bits, sizeof(power));
    Vector p = fma(set(1.32647273e-3f), f, set(9.67151299e-3f));
    p = fma(p, f, set(5.55073358e-2f));
    p = fma(p, f, set(2.40222424e-1f));
    p = fma(p, f, set(6.93147004e-1f));
    return fma(p, f, set(1.0f)) * power;
  }

  static CROWD_SIMD float widen(Bfloat16 x) {
    const std::uint32_t bits = std::uint32_t{x.bits} << 16;
    float y;
    std::memcpy(&y, &bits, sizeof(y));
    return y;
  }
  static CROWD_SIMD float widen(float x) { return x; }

  // To the nearest bfloat16, ties to even; a NaN stays one.
  static CROWD_SIMD void narrow(float x, Bfloat16& y) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof(bits));
    const std::uint32_t up = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
    y.bits = static_cast<std::uint16_t>((x == x ? up : quiet) >> 16);
  }
  static CROWD_SIMD void narrow(float x, float& y) { y = x; }

  // The first `left` elements, at most a vector of them; the other lanes are zero, or not written.
  template <typename Element>
  static CROWD_SIMD Vector load_some(const Element* p, Index left) {
    Element some[kLanes] = {};
    if (left < kLanes) {
      std::memcpy(some, p, static_cast<std::size_t>(left) * sizeof(Element));
      p = some;
    }
    float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = widen(p[i]);
    return load(lanes);
  }
  template <typename Element>
  static CROWD_SIMD void store_some(Element* p, Vector x, Index left) {
    float lanes[kLanes];
    store(lanes, x);
    Element narrowed[kLanes];
    for (int i = 0; i < kLanes; ++i) narrow(lanes[i], narrowed[i]);
    if (left >= kLanes) {
      std::memcpy(p, narrowed, sizeof(narrowed));
    } else {
      std::memcpy(p, narrowed, static_cast<std::size_t>(left) * sizeof(Element));
    }
  }

  static CROWD_SIMD Words zero() { return Words{}; }
  static CROWD_SIMD Words load_words(const Word* p) { return load(p); }
  static CROWD_SIMD void store_words(Word* p, Words x) { store(p, x); }
  // One word in every lane.
  static CROWD_SIMD Words repeat(const Word* p) { return set(*p); }
  // sums + a b, over the elements of each word.
  static CROWD_SIMD Vector dot(Words a, Words b, Vector sums) { return a * b + sums; }
  static CROWD_SIMD void store_weights(Word* p, Vector x) { store(p, x); }

  // A vector of words from consecutive elements, `left` of which there are.
  template <typename Element>
  static CROWD_SIMD Words pack(const Element* p, Index left) {
    return load_some(p, left);
  }
  // One word per channel, from the values of kPerWord positions; null stands for zeros.
  template <typename Element>
  static CROWD_SIMD Words interleave(const Element* first, const Element*, Index left) {
    return load_some(first, left);
  }

  static CROWD_SIMD void transpose(Words (&x)[kLanes]) {
    float in[kLanes][kLanes], out[kLanes][kLanes];
    std::memcpy(in, x, sizeof(in));
    for (int i = 0; i < kLanes; ++i) {
      for (int j = 0; j < kLanes; ++j) out[j][i] = in[i][j];
    }
    std::memcpy(x, out, sizeof(out));
  }
};

}  // namespace

void attend_line_portable(const Line<float>& line, const Scratch& scratch, bool second) {
  attend_line<Portable>(line, scratch, second);
}

void attend_line_portable(const Line<Bfloat16>& line, const Scratch& scratch, bool second) {
  attend_line<Portable>(line, scratch, second);
}

}  // namespace crowd
