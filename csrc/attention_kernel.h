#pragma once

#include <limits>

#include "attention_tile.h"

// Attention along one line, for the vectors `S` of one processor. k is packed transposed and v by position,
// in panels of columns, so that a tile reads memory in order; every query of the line then reads the packed
// panels from cache.
namespace crowd {
namespace {

// Starts to load some elements into the second-level cache, a while before they are needed.
template <typename Element>
CROWD_SIMD void prefetch(const Element* from, Index elements) {
#if defined(__GNUC__)
  const char* bytes = reinterpret_cast<const char*>(from);
  const Index size = elements * static_cast<Index>(sizeof(Element));
  for (Index i = 0; i < size; i += 64) __builtin_prefetch(bytes + i, 0, 2);
#endif
}

// Takes the block's scores. Meanwhile the memory that its values go to is fetched.
template <class S, class Element, bool Second>
struct StoreScores {
  const Line<Element>& line;
  Index first, rows;
  float* scores;
  Index stride;

  template <int Rows, int Vectors>
  CROWD_SIMD void take(const typename S::Vector (&sums)[Rows][Vectors], Index row, Index column) const {
    for (int r = 0; column == 0 && r < Rows && row + r < rows; ++r) {
      prefetch(line.state.acc + (first + row + r) * line.state.channel_step, line.channels);
      if (Second) prefetch(line.state.out + (first + row + r) * line.state.channel_step, line.channels);
    }
    for (int r = 0; r < Rows; ++r) {
      for (int i = 0; i < Vectors; ++i)
        S::store(scores + (row + r) * stride + column + i * S::kLanes, sums[r][i]);
    }
  }
};

// Takes the block's weighted values, while the next line is fetched. The first pass leaves them in `acc`;
// the second adds to those, scaled by `rescale`, and writes what that makes, times `norm`, to `out`.
template <class S, class Element, bool Second>
struct StoreValues {
  const Line<Element>& line;
  Index first, rows;
  const float *rescale, *norm;

  template <int Rows, int Vectors>
  CROWD_SIMD void take(const typename S::Vector (&sums)[Rows][Vectors], Index row, Index column) const {
    for (int r = 0; r < Rows && row + r < rows; ++r) {
      const Index j = first + row + r;
      float* acc = line.state.acc + j * line.state.channel_step + column;
      Element* out = line.state.out + j * line.state.channel_step + column;
      if (column == 0) prefetch_next(j);
      const auto rescale_row = S::set(rescale[row + r]), norm_row = S::set(norm[row + r]);
      for (int i = 0; i < Vectors; ++i) {
        const Index place = i * S::kLanes, left = line.channels - column - place;
        if (!Second) {
          S::store_some(acc + place, sums[r][i], left);
        } else {
          const auto before = S::load_some(acc + place, left);
          S::store_some(out + place, S::mul(S::fma(before, rescale_row, sums[r][i]), norm_row), left);
        }
      }
    }
  }

  // The same pixel of the line that this thread probably does next.
  CROWD_SIMD void prefetch_next(Index j) const {
    prefetch(line.q.at + line.q.next + j * line.q.stride, line.depth);
    prefetch(line.k.at + line.k.next + j * line.k.stride, line.depth);
    prefetch(line.v.at + line.v.next + j * line.v.stride, line.channels);
  }
};

template <class S, class Element>
struct LineAttention {
  using Word = typename S::Word;
  using Words = typename S::Words;
  static constexpr Index kLanes = S::kLanes;
  static constexpr Index kPanel = S::kPanelVectors * kLanes;
  static constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  static constexpr int kRowsAtOnce = 4;
  // No maximum yet: below every logit, and finite so that differences are never NaN.
  static constexpr float kNoMaximum = std::numeric_limits<float>::lowest();

  const Line<Element>& line;
  const Scratch& scratch;
  // Words of a query or key, its space in words, words along a line, and the length of a row of scores.
  const Index steps, query_stride, pairs, width;

  CROWD_SIMD LineAttention(const Line<Element>& line, const Scratch& scratch)
      : line(line),
        scratch(scratch),
        steps((line.depth + S::kPerWord - 1) / S::kPerWord),
        query_stride(whole(steps)),
        pairs((line.length + S::kPerWord - 1) / S::kPerWord),
        width(whole(line.length)) {}

  static constexpr Index whole(Index size) { return (size + kLanes - 1) / kLanes * kLanes; }

  // Where word 0 of the given column stands in panels of so many columns and steps, and its panel's width.
  struct Place {
    Index offset, panel;
  };
  static constexpr Place place(Index column, Index columns, Index steps) {
    const Index start = column / kPanel * kPanel;
    return {start * steps + column - start, columns - start < kPanel ? columns - start : kPanel};
  }

  // Panels of keys, each [steps, panel]; keys past the end of the line are zero.
  CROWD_SIMD void pack_keys() const {
    for (Index j = 0; j < width; j += kLanes) {
      const Place to = place(j, width, steps);
      Word* panel = static_cast<Word*>(scratch.k) + to.offset;
      for (Index s = 0; s < steps; s += kLanes) {
        Words block[kLanes];
        for (Index i = 0; i < kLanes; ++i) {
          const bool inside = j + i < line.length;
          const Index done = s * S::kPerWord;
          block[i] =
              inside ? S::pack(line.k.at + (j + i) * line.k.stride + done, line.depth - done) : S::zero();
        }
        S::transpose(block);
        const Index count = steps - s < kLanes ? steps - s : kLanes;
        for (Index t = 0; t < count; ++t) S::store_words(panel + (s + t) * to.panel, block[t]);
      }
    }
  }

  // Panels of channels, each [pairs, panel]; channels past the last are zero. Pixel by pixel, because those
  // of a column often compete for the same few places in the cache.
  CROWD_SIMD void pack_values() const {
    const Index columns = whole(line.channels);
    for (Index p = 0; p < pairs; ++p) {
      const Index j = p * S::kPerWord;
      const Element* value = line.v.at + j * line.v.stride;
      const Element* other = j + 1 < line.length ? value + line.v.stride : nullptr;
      for (Index c = 0; c < columns; c += kLanes) {
        const Place to = place(c, columns, pairs);
        Word* packed = static_cast<Word*>(scratch.v) + to.offset + p * to.panel;
        S::store_words(packed, S::interleave(value + c, other ? other + c : nullptr, line.channels - c));
      }
    }
  }

  // Queries of one block; those past the end of the line are zero.
  CROWD_SIMD void pack_queries(Index first, Index rows) const {
    Word* packed = static_cast<Word*>(scratch.q);
    for (Index r = 0; r < kBlockRows; ++r, packed += query_stride) {
      for (Index s = 0; s < steps; s += kLanes) {
        const Index done = s * S::kPerWord;
        const Element* query = line.q.at + (first + r) * line.q.stride + done;
        S::store_words(packed + s, r < rows ? S::pack(query, line.depth - done) : S::zero());
      }
    }
  }

  // Makes weights exp(score - maximum) of rows of scores, and their sums. The maxima never fall. Several rows
  // at once, because each waits for its own maximum and sum.
  template <int Rows>
  CROWD_SIMD void exponentiate(const float* scores, Word* weights, float* maxima, float* sums) const {
    typename S::Vector peaks[Rows], totals[Rows];
    for (int r = 0; r < Rows; ++r) peaks[r] = S::set(maxima[r]);
    for (Index j = 0; j < width; j += kLanes) {
      for (int r = 0; r < Rows; ++r) peaks[r] = S::max(S::load(scores + r * width + j), peaks[r]);
    }
    for (int r = 0; r < Rows; ++r) {
      maxima[r] = S::reduce_max(peaks[r]);
      peaks[r] = S::set(maxima[r]);
      totals[r] = S::set(0.0f);
    }
    for (Index j = 0; j < width; j += kLanes) {
      for (int r = 0; r < Rows; ++r) {
        const auto weight = S::exp(S::sub(S::load(scores + r * width + j), peaks[r]));
        totals[r] = S::add(totals[r], weight);
        S::store_weights(weights + (r * width + j) / S::kPerWord, weight);
      }
    }
    for (int r = 0; r < Rows; ++r) sums[r] = S::reduce_sum(totals[r]);
  }

  template <bool Second>
  CROWD_SIMD void attend(Index first, Index rows) const {
    float rescale[kBlockRows], norm[kBlockRows];
    const Index weight_stride = width / S::kPerWord;
    Word* weights = static_cast<Word*>(scratch.weights);
    pack_queries(first, rows);
    multiply<S>(static_cast<const Word*>(scratch.q), query_stride, rows,
                Packed<S>{static_cast<const Word*>(scratch.k), width, steps},
                StoreScores<S, Element, Second>{line, first, rows, scratch.scores, width});
    for (Index r = 0; r < rows; ++r) {
      float* row = scratch.scores + r * width;
      for (Index j = line.length; j < width; ++j) row[j] = kMinusInfinity;
      // The pixel itself is counted in the second pass.
      if (!Second) row[first + r] = kMinusInfinity;
    }
    float largest[kBlockRows], sums[kBlockRows];
    for (Index r = 0; r < rows; ++r) {
      largest[r] = Second ? line.state.maximum[(first + r) * line.state.step] : kNoMaximum;
    }
    Index done = 0;
    for (; done + kRowsAtOnce <= rows; done += kRowsAtOnce) {
      exponentiate<kRowsAtOnce>(scratch.scores + done * width, weights + done * weight_stride, largest + done,
                                sums + done);
    }
    for (; done < rows; ++done) {
      exponentiate<1>(scratch.scores + done * width, weights + done * weight_stride, largest + done,
                      sums + done);
    }
    for (Index r = 0; r < rows; ++r) {
      float& maximum = line.state.maximum[(first + r) * line.state.step];
      float& sum = line.state.sum[(first + r) * line.state.step];
      rescale[r] = Second ? S::first(S::exp(S::set(maximum - largest[r]))) : 0.0f;
      norm[r] = Second ? 1.0f / (rescale[r] * sum + sums[r]) : 0.0f;
      maximum = largest[r];
      sum = sums[r];
    }
    multiply<S>(static_cast<const Word*>(weights), weight_stride, rows,
                Packed<S>{static_cast<const Word*>(scratch.v), whole(line.channels), pairs},
                StoreValues<S, Element, Second>{line, first, rows, rescale, norm});
  }

  template <bool Second>
  CROWD_SIMD void run() const {
    pack_keys();
    pack_values();
    for (Index first = 0; first < line.length; first += kBlockRows) {
      attend<Second>(first, line.length - first < kBlockRows ? line.length - first : kBlockRows);
    }
  }
};

template <class S, class Element>
CROWD_SIMD void attend_line(const Line<Element>& line, const Scratch& scratch, bool second) {
  const LineAttention<S, Element> attention(line, scratch);
  second ? attention.template run<true>() : attention.template run<false>();
}

}  // namespace
}  // namespace crowd
