"""Heads that have no peak of their own: people stand so close there that their peaks merge."""

from __future__ import annotations

import numpy as np

# A cell beside a peak is taken after all others: this is taken off what the map says there, which is 0 to 1.
_BESIDE_A_PEAK = 2.0


def find_merged(
    heatmap: np.ndarray, rate: np.ndarray, cells: int, points: np.ndarray, missing: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places for ``missing`` heads beside those at ``points``, where the encoder expects more people than were found.

    Args:
        heatmap: float32 [h, w] in [0, 1].
        rate: float32 [ceil(h / cells), ceil(w / cells)], heads that the encoder expects in each block of the map.
        cells: side of a block.
        points: float32 [N, 2], (x, y) in cells, of the heads that were found.
        missing: how many more there are; no more than cells without a point.

    Returns:
        (x, y) of the middle of as many cells, float32 [missing, 2] in raster order, and what the map has there. A cell
        takes one head; the highest of a block come first, those beside a peak last.
    """
    height, width = heatmap.shape
    columns, rows = np.floor(points).astype(np.int64).T
    lacking = _lacking(rate, rows // cells, columns // cells, missing)
    order, is_free = _preference(heatmap, rows, columns)
    shape = (rate.shape[0] * cells, rate.shape[1] * cells)
    preference = np.full(shape, -np.inf, np.float32)
    preference[:height, :width] = np.where(is_free, order, -np.inf)
    wanting = lacking > 0
    blocks = _blocks(preference, cells)[wanting]
    ranks = np.argsort(np.argsort(-blocks.reshape(len(blocks), cells**2), axis=1, kind="stable"), axis=1)
    chosen = np.zeros(shape, bool)
    taken = (ranks < lacking[wanting][:, None]).reshape(blocks.shape)
    _blocks(chosen, cells)[wanting] = taken & np.isfinite(blocks)
    chosen = chosen[:height, :width]
    # What found no room in its own block.
    left = missing - int(chosen.sum())
    if left:
        others = np.flatnonzero(is_free & ~chosen)
        more = others[np.argsort(-order.reshape(-1)[others], kind="stable")[:left]]
        chosen[np.unravel_index(more, chosen.shape)] = True
    row, column = np.nonzero(chosen)
    return np.stack([column, row], axis=1).astype(np.float32) + np.float32(0.5), heatmap[row, column]


def _blocks(array: np.ndarray, cells: int) -> np.ndarray:
    """A view [R, C, cells, cells] of [R * cells, C * cells]."""
    return array.reshape(array.shape[0] // cells, cells, array.shape[1] // cells, cells).swapaxes(1, 2)


def _lacking(rate: np.ndarray, rows: np.ndarray, columns: np.ndarray, missing: int) -> np.ndarray:
    """Heads that each block lacks, int64 [R, C]; they are ``missing`` in all, or none where the rate says nothing.

    What a block lacks is judged with its neighbours: a head at its edge may have its peak on either side.
    """
    total = float(rate.sum(dtype=np.float64))
    if not total > 0:
        return np.zeros(rate.shape, np.int64)
    found = np.zeros(rate.shape)
    np.add.at(found, (rows, columns), 1.0)
    lack = np.maximum(_neighbourhood(rate * ((len(rows) + missing) / total) - found), 0)
    # Rounded so that the sums along a path through all blocks, back and forth, are never off by more than a half.
    path = lack.copy()
    path[1::2] = path[1::2, ::-1]
    sums = np.round(path.cumsum() * (missing / path.sum()) if path.any() else path.ravel())
    whole = np.diff(sums, prepend=0).astype(np.int64).reshape(rate.shape)
    whole[1::2] = whole[1::2, ::-1]
    return whole


def _neighbourhood(blocks: np.ndarray) -> np.ndarray:
    """Sum of each block and its eight neighbours, [R, C]."""
    padded = np.pad(blocks.astype(np.float64), 1)
    tall = padded[:-2] + padded[1:-1] + padded[2:]
    return tall[:, :-2] + tall[:, 1:-1] + tall[:, 2:]


def _preference(heatmap: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In which order cells are taken, the largest first, and which are free: [h, w] each."""
    is_free = np.ones(heatmap.shape, bool)
    is_free[rows, columns] = False
    near = np.pad(~is_free, 1)
    near = near[:-2] | near[1:-1] | near[2:]
    near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
    return heatmap - np.float32(_BESIDE_A_PEAK) * near, is_free
