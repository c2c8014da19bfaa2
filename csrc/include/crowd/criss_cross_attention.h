#pragma once

#include "crowd/tensor_view.h"

namespace crowd {

// Attention of every pixel to its own row and column under one softmax (CCNet).
//
//   out[y, x] = sum_p softmax_p(q[y, x] . k[p]) v[p],   p in row y or column x, (y, x) itself once.
//
// q, k: [B, H, W, D]; v: [B, H, W, C]; out: [B, H, W, C], contiguous, overlapping none of the inputs.
// Logits are not scaled. No [H, W, H + W - 1] energy tensor is made: a pass over the columns leaves its
// running maximum and sum per pixel, and seeds the online softmax of a pass over the rows.
// threads: 0 for one per processor. The result does not depend on it.
void criss_cross_attention(const TensorView& q, const TensorView& k, const TensorView& v, float* out,
                           int threads = 0);

}  // namespace crowd
