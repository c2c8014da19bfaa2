#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#include "crowd/tensor_view.h"
#include "multiversion.h"

// Attention along one row or column, in plain loops of fixed length that compilers turn into vector code.
//
// Both products, q.k over the keys and p.v over the channels, are computed by one register tile: TileRows
// queries by Panel columns. For it, k is packed transposed and v as it is, in panels of Panel columns,
// so that a tile reads memory in order; every query of the line then reads the packed panels from cache.
namespace crowd {
namespace {

// Queries whose probabilities are held at once: their panels of v are read from cache once per block. A whole
// number of tiles in every version.
constexpr Index kBlockRows = 24;
// Largest tile of any version, hence the size and padding of scratch memory.
constexpr Index kMostTileRows = 6;
constexpr Index kWidestPanel = 64;

// No running maximum: below every logit, and finite so that differences are never NaN.
constexpr float kNoMaximum = std::numeric_limits<float>::lowest();

// One line of pixels, `length` of them, each array with its own distance between neighbours. `maximum` and
// `sum` are the state of the online softmax (of base-2 logits), `out` its weighted, unnormalised values.
struct Line {
  Index length, depth, channels;
  const float *q, *k, *v;
  Index q_stride, k_stride, v_stride;
  float *maximum, *sum, *out;
  Index state_stride, out_stride;
};

// Scratch of one thread for lines of up to the given length, in floats; all parts are padded to whole panels.
struct Scratch {
  float *q, *k, *v, *scores, *tile;

  static Index padded(Index size) { return (size + kWidestPanel - 1) / kWidestPanel * kWidestPanel; }

  static Index floats(Index length, Index depth, Index channels) {
    return padded(kBlockRows * depth) + padded(length) * depth + length * padded(channels) +
           kBlockRows * padded(length) + kMostTileRows * kWidestPanel;
  }

  Scratch(float* memory, Index length, Index depth, Index channels)
      : q(memory),
        k(q + padded(kBlockRows * depth)),
        v(k + padded(length) * depth),
        scores(v + length * padded(channels)),
        tile(scores + kBlockRows * padded(length)) {}
};

// 2^x for x <= 0, to 1e-7; below 2^-125 the result is 0. Free of branches and of library calls.
CROWD_INLINE float exp2_negative(float x) {
  // Adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits.
  constexpr float kRound = 12582912.0f;
  const float bounded = x < -125.0f ? -125.0f : x;
  const float rounded = bounded + kRound;
  const float f = bounded - (rounded - kRound);
  // Polynomial of 2^f on [-0.5, 0.5].
  float p = 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  std::uint32_t exponent, bits;
  std::memcpy(&exponent, &rounded, sizeof(exponent));
  std::memcpy(&bits, &p, sizeof(bits));
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof(p));
  return x < -125.0f ? 0.0f : p;
}

// c[r, 0:Panel] = sum over d of a[r * a_stride + d] * b[d, 0:Panel], for one tile.
template <int Panel, int TileRows>
CROWD_INLINE void multiply_tile(const float* __restrict a, Index a_stride, const float* __restrict b,
                                Index depth, float* __restrict c, Index c_stride) {
  float sums[TileRows][Panel] = {};
  for (Index d = 0; d < depth; ++d, b += Panel) {
    for (int r = 0; r < TileRows; ++r) {
      for (int i = 0; i < Panel; ++i) sums[r][i] += a[r * a_stride + d] * b[i];
    }
  }
  for (int r = 0; r < TileRows; ++r) {
    for (int i = 0; i < Panel; ++i) c[r * c_stride + i] = sums[r][i];
  }
}

template <int Panel, int TileRows>
struct LineAttention {
  static_assert(Panel <= kWidestPanel && TileRows <= kMostTileRows && kBlockRows % TileRows == 0);

  const Line& line;
  const Scratch& scratch;
  // Length of a row of scores.
  const Index width;

  CROWD_INLINE LineAttention(const Line& line, const Scratch& scratch)
      : line(line), scratch(scratch), width((line.length + Panel - 1) / Panel * Panel) {}

  // Panels of Panel keys, each [depth, Panel]; keys past the end of the line are zero.
  CROWD_INLINE void pack_keys() const {
    for (Index j = 0; j < width; j += Panel) {
      float* panel = scratch.k + j * line.depth;
      const Index count = line.length - j < Panel ? line.length - j : Panel;
      for (Index i = 0; i < count; ++i) {
        const float* key = line.k + (j + i) * line.k_stride;
        for (Index d = 0; d < line.depth; ++d) panel[d * Panel + i] = key[d];
      }
      for (Index d = 0; d < line.depth; ++d) {
        for (Index i = count; i < Panel; ++i) panel[d * Panel + i] = 0.0f;
      }
    }
  }

  // Panels of Panel channels, each [length, Panel]; channels past the last are zero.
  CROWD_INLINE void pack_values() const {
    for (Index c = 0; c < line.channels; c += Panel) {
      float* panel = scratch.v + c * line.length;
      const Index count = line.channels - c < Panel ? line.channels - c : Panel;
      for (Index j = 0; j < line.length; ++j, panel += Panel) {
        const float* value = line.v + j * line.v_stride + c;
        for (Index i = 0; i < count; ++i) panel[i] = value[i];
        for (Index i = count; i < Panel; ++i) panel[i] = 0.0f;
      }
    }
  }

  // Queries of one block, scaled so that exp(q.k) is 2^logit; rows past the end of the line are zero.
  CROWD_INLINE void pack_queries(Index first, Index rows) const {
    constexpr float kLog2E = 1.44269504088896341f;
    float* __restrict packed = scratch.q;
    for (Index r = 0; r < rows; ++r, packed += line.depth) {
      const float* query = line.q + (first + r) * line.q_stride;
      for (Index d = 0; d < line.depth; ++d) packed[d] = query[d] * kLog2E;
    }
    std::memset(packed, 0, static_cast<std::size_t>((kBlockRows - rows) * line.depth) * sizeof(float));
  }

  // Turns a row of logits into exp2(logit - maximum); returns their sum. `maximum` is at least its old value.
  CROWD_INLINE float exponentiate(float* __restrict row, float& maximum) const {
    float lanes[Panel];
    for (int i = 0; i < Panel; ++i) lanes[i] = maximum;
    for (Index j = 0; j < width; j += Panel) {
      for (int i = 0; i < Panel; ++i) lanes[i] = row[j + i] > lanes[i] ? row[j + i] : lanes[i];
    }
    for (int half = Panel / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] = lanes[i + half] > lanes[i] ? lanes[i + half] : lanes[i];
    }
    const float largest = lanes[0];
    for (Index j = 0; j < width; ++j) row[j] = exp2_negative(row[j] - largest);
    for (int i = 0; i < Panel; ++i) lanes[i] = 0.0f;
    for (Index j = 0; j < width; j += Panel) {
      for (int i = 0; i < Panel; ++i) lanes[i] += row[j + i];
    }
    for (int half = Panel / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    maximum = largest;
    return lanes[0];
  }

  // Logits of one block of queries, [rows, width]; whole tiles are computed.
  CROWD_INLINE void score(Index rows) const {
    for (Index j = 0; j < width; j += Panel) {
      for (Index r = 0; r < rows; r += TileRows) {
        multiply_tile<Panel, TileRows>(scratch.q + r * line.depth, line.depth, scratch.k + j * line.depth,
                                       line.depth, scratch.scores + r * width + j, width);
      }
    }
  }

  // The block's values weighted by its probabilities. The first pass sets `out`; the second adds to it,
  // scaled by `keep`, and normalises.
  template <bool Second>
  CROWD_INLINE void weigh_values(Index first, Index rows, const float* keep, const float* norm) const {
    for (Index c = 0; c < line.channels; c += Panel) {
      const Index count = line.channels - c < Panel ? line.channels - c : Panel;
      for (Index r = 0; r < rows; r += TileRows) {
        multiply_tile<Panel, TileRows>(scratch.scores + r * width, width, scratch.v + c * line.length,
                                       line.length, scratch.tile, Panel);
        const Index tile_rows = rows - r < TileRows ? rows - r : TileRows;
        for (Index t = 0; t < tile_rows; ++t) {
          float* __restrict out = line.out + (first + r + t) * line.out_stride + c;
          const float* __restrict tile = scratch.tile + t * Panel;
          const float scale = keep[r + t], factor = norm[r + t];
          for (Index i = 0; i < count; ++i) out[i] = Second ? (scale * out[i] + tile[i]) * factor : tile[i];
        }
      }
    }
  }

  template <bool Second>
  CROWD_INLINE void attend(Index first, Index rows) const {
    float keep[kBlockRows] = {}, norm[kBlockRows] = {};
    pack_queries(first, rows);
    score(rows);
    for (Index r = 0; r < rows; ++r) {
      float* row = scratch.scores + r * width;
      float& maximum = line.maximum[(first + r) * line.state_stride];
      float& sum = line.sum[(first + r) * line.state_stride];
      for (Index j = line.length; j < width; ++j) row[j] = kNoMaximum;
      // The pixel itself is counted in the second pass.
      if (!Second) row[first + r] = kNoMaximum;
      const float before = Second ? maximum : kNoMaximum;
      float largest = before;
      const float row_sum = exponentiate(row, largest);
      maximum = largest;
      keep[r] = exp2_negative(before - largest);
      sum = Second ? keep[r] * sum + row_sum : row_sum;
      norm[r] = 1.0f / sum;
    }
    weigh_values<Second>(first, rows, keep, norm);
  }

  template <bool Second>
  CROWD_INLINE void run() const {
    pack_keys();
    pack_values();
    for (Index first = 0; first < line.length; first += kBlockRows) {
      attend<Second>(first, line.length - first < kBlockRows ? line.length - first : kBlockRows);
    }
  }
};

}  // namespace
}  // namespace crowd
