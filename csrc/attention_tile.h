#pragma once

#include "attention_line.h"

#ifndef CROWD_SIMD
#error "Include the vectors of one processor first: they define CROWD_SIMD"
#endif

// The product behind both halves of attention, q.k over the keys and weights.v over the channels: a register
// tile of some queries by a panel of columns, summed over words that hold one float or two bfloat16. The
// vectors `S` of a processor are described in attention_portable.cpp.
namespace crowd {
namespace {

// Packed words of the right-hand side: panels [steps, S::kPanelVectors * S::kLanes], the last one narrower.
template <class S>
struct Packed {
  const typename S::Word* words;
  Index columns, steps;
};

// sums[r][i] = sum over steps of a[r, step] * panel[step, i], the columns in whole vectors.
template <class S, int Rows, int Vectors>
struct Tile {
  typename S::Vector sums[Rows][Vectors];

  CROWD_SIMD void multiply(const typename S::Word* a, Index a_stride, const typename S::Word* panel,
                           Index steps) {
    for (int r = 0; r < Rows; ++r) {
      for (int i = 0; i < Vectors; ++i) sums[r][i] = S::set(0.0f);
    }
    for (Index step = 0; step < steps; ++step, panel += Vectors * S::kLanes) {
      typename S::Words right[Vectors];
      for (int i = 0; i < Vectors; ++i) right[i] = S::load_words(panel + i * S::kLanes);
      for (int r = 0; r < Rows; ++r) {
        const typename S::Words left = S::repeat(a + r * a_stride + step);
        for (int i = 0; i < Vectors; ++i) sums[r][i] = S::dot(left, right[i], sums[r][i]);
      }
    }
  }
};

// Rows of the next tile. Tiles of two heights leave the fewest rows of a line unused.
template <class S>
constexpr int tile_rows(Index left) {
  return left > 8 || left == 6 || left == 5 ? S::kTileRows : S::kLowTileRows;
}

// Hands every tile of a [rows, right.columns] product to `done(tile, row, column)`. Rows of `a` are read up
// to the end of the last tile.
template <class S, int Vectors, class Done>
CROWD_SIMD void multiply_panel(const typename S::Word* a, Index a_stride, Index rows, const Packed<S>& right,
                               Index column, const Done& done) {
  const typename S::Word* panel = right.words + column * right.steps;
  for (Index r = 0; r < rows;) {
    if (tile_rows<S>(rows - r) == S::kTileRows) {
      Tile<S, S::kTileRows, Vectors> tile;
      tile.multiply(a + r * a_stride, a_stride, panel, right.steps);
      done.take(tile.sums, r, column);
      r += S::kTileRows;
    } else {
      Tile<S, S::kLowTileRows, Vectors> tile;
      tile.multiply(a + r * a_stride, a_stride, panel, right.steps);
      done.take(tile.sums, r, column);
      r += S::kLowTileRows;
    }
  }
}

template <class S, class Done>
CROWD_SIMD void multiply(const typename S::Word* a, Index a_stride, Index rows, const Packed<S>& right,
                         const Done& done) {
  constexpr int kMost = S::kPanelVectors;
  static_assert(kMost == 2 || kMost == 4);
  Index column = 0;
  for (; column + kMost * S::kLanes <= right.columns; column += kMost * S::kLanes) {
    multiply_panel<S, kMost>(a, a_stride, rows, right, column, done);
  }
  const Index vectors = (right.columns - column) / S::kLanes;
  if constexpr (kMost == 4) {
    if (vectors == 3) multiply_panel<S, 3>(a, a_stride, rows, right, column, done);
    if (vectors == 2) multiply_panel<S, 2>(a, a_stride, rows, right, column, done);
  }
  if (vectors == 1) multiply_panel<S, 1>(a, a_stride, rows, right, column, done);
}

}  // namespace
}  // namespace crowd
