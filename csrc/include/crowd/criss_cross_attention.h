#pragma once

#include <vector>

#include "crowd/tensor_view.h"

namespace crowd {

// Attention of every pixel to its own row and column under one softmax (CCNet).
//
//   out[y, x] = sum_p softmax_p(q[y, x] . k[p]) v[p],   p in row y or column x, (y, x) itself once.
//
// q, k: [B, H, W, D]; v: [B, H, W, C]; out: [B, H, W, C], contiguous, overlapping none of the inputs.
// Logits are not scaled. No [H, W, H + W - 1] energy tensor is made: a pass over the columns leaves its
// running maximum and sum per pixel, and seeds the online softmax of a pass over the rows. A pixel with a
// logit that is NaN or +infinity, or with none above -infinity, becomes NaN.
// threads: 0 for one per processor. The result does not depend on it, and is the same at every call of one
// version.
// version: one of attention_versions(), else std::invalid_argument; null for the first, the fastest.
//
// The calling thread keeps up to 64 MiB of scratch memory for its next call.
void criss_cross_attention(const TensorView& q, const TensorView& k, const TensorView& v, float* out,
                           int threads = 0, const char* version = nullptr);

// The same in bfloat16: logits, softmax and sums are float32; the weights are rounded to bfloat16 before
// they meet the values where the processor multiplies bfloat16 (AVX-512-BF16), and are float32 elsewhere.
void criss_cross_attention(const Bfloat16View& q, const Bfloat16View& k, const Bfloat16View& v, Bfloat16* out,
                           int threads = 0, const char* version = nullptr);

// The versions that this processor can run, in float and in Bfloat16, the fastest first: of "avx512_bf16"
// (where the compiler knew it: GCC 10, Clang 12), "avx512", "avx2" and "portable".
template <typename Element>
std::vector<const char*> attention_versions();
template <>
std::vector<const char*> attention_versions<float>();
template <>
std::vector<const char*> attention_versions<Bfloat16>();

}  // namespace crowd
