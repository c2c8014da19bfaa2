#include "multiversion.h"

#if CROWD_X86_BF16

#define CROWD_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"
#include "attention_avx512.h"
#include "attention_kernel.h"

namespace crowd {
namespace {

// Products of two bfloat16 at a time, in words of two.
struct Avx512Bf16 : Avx512 {
  using Word = std::uint32_t;
  using Words = __m512i;
  static constexpr int kPerWord = 2;

  static CROWD_SIMD Words zero() { return _mm512_setzero_si512(); }
  static CROWD_SIMD Words load_words(const Word* p) { return _mm512_loadu_si512(p); }
  static CROWD_SIMD void store_words(Word* p, Words x) { _mm512_storeu_si512(p, x); }
  static CROWD_SIMD Words repeat(const Word* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static CROWD_SIMD Vector dot(Words a, Words b, Vector sums) {
    return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
  }

  static CROWD_SIMD __m256i narrow(Vector x) { return (__m256i)_mm512_cvtneps_pbh(x); }
  static CROWD_SIMD void store_weights(Word* p, Vector x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(x));
  }
  using Avx512::store_some;
  static CROWD_SIMD void store_some(Bfloat16* p, Vector x, Index left) { store_bits(p, narrow(x), left); }

  // e^x for x <= 0, to 1e-4: a twentieth of what rounding to bfloat16 adds.
  static CROWD_SIMD Vector exp(Vector x) {
    Vector f;
    const Vector power = split(x, f);
    Vector p = fma(set(5.50089329e-2f), f, set(2.42210969e-1f));
    p = fma(p, f, set(6.93282902e-1f));
    return mul(fma(p, f, set(1.0f)), power);
  }

  static CROWD_SIMD Words pack(const Bfloat16* p, Index left) {
    return left >= 2 * kLanes ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16((1u << left) - 1, p);
  }

  static CROWD_SIMD Words interleave(const Bfloat16* first, const Bfloat16* second, Index left) {
    const __mmask16 used = lanes(left);
    const Words low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(used, first));
    if (second == nullptr) return low;
    const Words high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(used, second));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }

  static CROWD_SIMD void transpose(Words (&x)[kLanes]) {
    Vector lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = _mm512_castsi512_ps(x[i]);
    Avx512::transpose(lanes);
    for (int i = 0; i < kLanes; ++i) x[i] = _mm512_castps_si512(lanes[i]);
  }
};

}  // namespace

CROWD_TARGET(CROWD_FEATURES)
void attend_line_avx512_bf16(const Line<Bfloat16>& line, const Scratch& scratch, bool second) {
  attend_line<Avx512Bf16>(line, scratch, second);
}

}  // namespace crowd

#endif
