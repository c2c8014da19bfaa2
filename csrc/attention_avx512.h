#pragma once

// GCC takes the intrinsics' own undefined vectors for a mistake (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include "crowd/tensor_view.h"
#include "multiversion.h"

// A source file that adds to Avx512 defines CROWD_FEATURES: functions inline only into ones with the same.
#ifndef CROWD_FEATURES
#define CROWD_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#endif
#define CROWD_SIMD CROWD_TARGET(CROWD_FEATURES) CROWD_INLINE

namespace crowd {
namespace {

// Vectors of 16 floats (see attention_portable.cpp).
struct Avx512 {
  using Vector = __m512;
  using Word = float;
  using Words = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kPerWord = 1;
  // Sums of 6 x 4 vectors leave 8 of the 32 registers for both sides of a product.
  static constexpr int kPanelVectors = 4;
  static constexpr int kTileRows = 6;
  static constexpr int kLowTileRows = 4;

  static CROWD_SIMD Vector set(float x) { return _mm512_set1_ps(x); }
  static CROWD_SIMD Vector load(const float* p) { return _mm512_loadu_ps(p); }
  static CROWD_SIMD void store(float* p, Vector x) { _mm512_storeu_ps(p, x); }
  static CROWD_SIMD Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  static CROWD_SIMD Vector sub(Vector a, Vector b) { return _mm512_sub_ps(a, b); }
  static CROWD_SIMD Vector mul(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
  static CROWD_SIMD Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static CROWD_SIMD Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  static CROWD_SIMD float first(Vector x) { return _mm512_cvtss_f32(x); }

  static CROWD_SIMD float reduce_max(Vector x) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }

  static CROWD_SIMD float reduce_sum(Vector x) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }

  // Splits log2(e) x, for x <= 0, into a whole number and a rest f in [-0.5, 0.5]; returns 2^whole. Below
  // e^-88, where float32 has no more normal numbers, that is 0.
  static CROWD_SIMD Vector split(Vector x, Vector& f) {
    const Vector log2_e = set(1.44269504f);
    // Adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits; with 127 it is an exponent.
    const Vector round = set(12582912.0f + 127.0f);
    // In this order the maximum of a NaN is a NaN.
    const Vector bounded = max(set(-88.0296919f), x);
    const Vector rounded = fma(bounded, log2_e, round);
    f = _mm512_fmsub_ps(bounded, log2_e, sub(rounded, round));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(rounded), 23));
  }

  // e^x for x <= 0, to 2e-7 and the rounding of x.
  static CROWD_SIMD Vector exp(Vector x) {
    Vector f;
    const Vector power = split(x, f);
    Vector p = fma(set(1.32647273e-3f), f, set(9.67151299e-3f));
    p = fma(p, f, set(5.55073358e-2f));
    p = fma(p, f, set(2.40222424e-1f));
    p = fma(p, f, set(6.93147004e-1f));
    return mul(fma(p, f, set(1.0f)), power);
  }

  static CROWD_SIMD __mmask16 lanes(Index count) {
    return static_cast<__mmask16>(count < kLanes ? (1u << count) - 1 : 0xffffu);
  }

  static CROWD_SIMD Vector widen(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }

  // To the nearest bfloat16, ties to even; a NaN stays one.
  static CROWD_SIMD __m256i narrow(Vector x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i kept = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
  }

  // The first `left` elements, at most a vector of them; the other lanes are zero, or not written.
  static CROWD_SIMD Vector load_some(const float* p, Index left) {
    return left >= kLanes ? load(p) : _mm512_maskz_loadu_ps(lanes(left), p);
  }
  static CROWD_SIMD Vector load_some(const Bfloat16* p, Index left) {
    return widen(_mm256_maskz_loadu_epi16(lanes(left), p));
  }
  static CROWD_SIMD void store_some(float* p, Vector x, Index left) {
    left >= kLanes ? store(p, x) : _mm512_mask_storeu_ps(p, lanes(left), x);
  }
  static CROWD_SIMD void store_bits(Bfloat16* p, __m256i bits, Index left) {
    if (left >= kLanes) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bits);
    } else {
      _mm256_mask_storeu_epi16(p, lanes(left), bits);
    }
  }
  static CROWD_SIMD void store_some(Bfloat16* p, Vector x, Index left) { store_bits(p, narrow(x), left); }

  static CROWD_SIMD Words zero() { return _mm512_setzero_ps(); }
  static CROWD_SIMD Words load_words(const Word* p) { return load(p); }
  static CROWD_SIMD void store_words(Word* p, Words x) { store(p, x); }
  static CROWD_SIMD Words repeat(const Word* p) { return set(*p); }
  static CROWD_SIMD Vector dot(Words a, Words b, Vector sums) { return fma(a, b, sums); }
  static CROWD_SIMD void store_weights(Word* p, Vector x) { store(p, x); }

  template <typename Element>
  static CROWD_SIMD Words pack(const Element* p, Index left) {
    return load_some(p, left);
  }
  template <typename Element>
  static CROWD_SIMD Words interleave(const Element* first, const Element*, Index left) {
    return load_some(first, left);
  }

  static CROWD_SIMD void transpose(Words (&x)[kLanes]) {
    Words y[kLanes];
    // Within quarters of 4 lanes: pairs, then pairs of pairs; afterwards quarter g of x[4 i + j] holds lane
    // 4 g + j of the inputs 4 i to 4 i + 3.
    for (int i = 0; i < kLanes; i += 2) {
      y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
      y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < kLanes; i += 4) {
      x[i] = _mm512_shuffle_ps(y[i], y[i + 2], 0x44);
      x[i + 1] = _mm512_shuffle_ps(y[i], y[i + 2], 0xee);
      x[i + 2] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0x44);
      x[i + 3] = _mm512_shuffle_ps(y[i + 1], y[i + 3], 0xee);
    }
    // Then the quarters of x[j], x[4 + j], x[8 + j] and x[12 + j].
    for (int j = 0; j < 4; ++j) {
      const Words a = _mm512_shuffle_f32x4(x[j], x[4 + j], 0x88),
                  b = _mm512_shuffle_f32x4(x[j], x[4 + j], 0xdd);
      const Words c = _mm512_shuffle_f32x4(x[8 + j], x[12 + j], 0x88),
                  d = _mm512_shuffle_f32x4(x[8 + j], x[12 + j], 0xdd);
      y[j] = _mm512_shuffle_f32x4(a, c, 0x88);
      y[8 + j] = _mm512_shuffle_f32x4(a, c, 0xdd);
      y[4 + j] = _mm512_shuffle_f32x4(b, d, 0x88);
      y[12 + j] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
};

}  // namespace
}  // namespace crowd
