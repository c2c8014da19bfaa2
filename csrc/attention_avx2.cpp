#include "multiversion.h"

#if CROWD_X86_VERSIONS

#include <immintrin.h>

#include <cstring>

#include "crowd/tensor_view.h"

#define CROWD_FEATURES "avx2,fma"
#define CROWD_SIMD CROWD_TARGET(CROWD_FEATURES) CROWD_INLINE

#include "attention_kernel.h"

namespace crowd {
namespace {

// Vectors of 8 floats (see attention_portable.cpp).
struct Avx2 {
  using Vector = __m256;
  using Word = float;
  using Words = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kPerWord = 1;
  // Sums of 6 x 2 vectors leave 4 of the 16 registers for both sides of a product.
  static constexpr int kPanelVectors = 2;
  static constexpr int kTileRows = 6;
  static constexpr int kLowTileRows = 4;

  static CROWD_SIMD Vector set(float x) { return _mm256_set1_ps(x); }
  static CROWD_SIMD Vector load(const float* p) { return _mm256_loadu_ps(p); }
  static CROWD_SIMD void store(float* p, Vector x) { _mm256_storeu_ps(p, x); }
  static CROWD_SIMD Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  static CROWD_SIMD Vector sub(Vector a, Vector b) { return _mm256_sub_ps(a, b); }
  static CROWD_SIMD Vector mul(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
  static CROWD_SIMD Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static CROWD_SIMD Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  static CROWD_SIMD float first(Vector x) { return _mm256_cvtss_f32(x); }

  static CROWD_SIMD float reduce_max(Vector x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
  }

  static CROWD_SIMD float reduce_sum(Vector x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
  }

  // As in attention_avx512.h.
  static CROWD_SIMD Vector exp(Vector x) {
    const Vector log2_e = set(1.44269504f), round = set(12582912.0f + 127.0f);
    const Vector bounded = max(set(-88.0296919f), x);
    const Vector rounded = fma(bounded, log2_e, round);
    const Vector f = _mm256_fmsub_ps(bounded, log2_e, sub(rounded, round));
    const Vector power = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(rounded), 23));
    Vector p = fma(set(1.32647273e-3f), f, set(9.67151299e-3f));
    p = fma(p, f, set(5.55073358e-2f));
    p = fma(p, f, set(2.40222424e-1f));
    p = fma(p, f, set(6.93147004e-1f));
    return mul(fma(p, f, set(1.0f)), power);
  }

  static CROWD_SIMD Vector load(const Bfloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }

  // To the nearest bfloat16, ties to even; a NaN stays one.
  static CROWD_SIMD void store(Bfloat16* p, Vector x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i kept = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(kept, kept), 0x88);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }

  template <typename Element>
  static CROWD_SIMD Vector load_some(const Element* p, Index left) {
    if (left >= kLanes) return load(p);
    Element whole[kLanes] = {};
    std::memcpy(whole, p, static_cast<std::size_t>(left) * sizeof(Element));
    return load(whole);
  }

  template <typename Element>
  static CROWD_SIMD void store_some(Element* p, Vector x, Index left) {
    if (left >= kLanes) return store(p, x);
    Element whole[kLanes];
    store(whole, x);
    std::memcpy(p, whole, static_cast<std::size_t>(left) * sizeof(Element));
  }

  static CROWD_SIMD Words zero() { return _mm256_setzero_ps(); }
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
    for (int i = 0; i < kLanes; i += 2) {
      y[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
      y[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < kLanes; i += 4) {
      x[i] = _mm256_shuffle_ps(y[i], y[i + 2], 0x44);
      x[i + 1] = _mm256_shuffle_ps(y[i], y[i + 2], 0xee);
      x[i + 2] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0x44);
      x[i + 3] = _mm256_shuffle_ps(y[i + 1], y[i + 3], 0xee);
    }
    for (int j = 0; j < 4; ++j) {
      y[j] = _mm256_permute2f128_ps(x[j], x[4 + j], 0x20);
      y[4 + j] = _mm256_permute2f128_ps(x[j], x[4 + j], 0x31);
    }
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
};

}  // namespace

CROWD_TARGET(CROWD_FEATURES)
void attend_line_avx2(const Line<float>& line, const Scratch& scratch, bool second) {
  attend_line<Avx2>(line, scratch, second);
}

CROWD_TARGET(CROWD_FEATURES)
void attend_line_avx2(const Line<Bfloat16>& line, const Scratch& scratch, bool second) {
  attend_line<Avx2>(line, scratch, second);
}

}  // namespace crowd

#endif
