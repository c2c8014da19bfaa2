"""Heads -> the map that the network learns and draws: one narrow peak for each."""

from __future__ import annotations

import numpy as np

# The peak's reach in cells of the head map; exp(-3^2 / 2) = 0.01 at its edge. KERNEL is the whole of it.
RADIUS = 3
_OFFSETS = np.arange(-RADIUS, RADIUS + 1)
KERNEL = np.exp(-(_OFFSETS[:, None] ** 2 + _OFFSETS**2) / 2.0).astype(np.float32)


def head_map(points: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """One peak of height 1 per head, neighbours combined by maximum.

    Args:
        points: [N, 2], (x, y) in pixels.
        height, width: cells of the map.
        stride: pixels per cell.

    Returns:
        float32 [height, width] in [0, 1]: max over heads of a Gaussian of sigma = 1 cell, centred on
        the head's cell (CenterNet's target; a maximum keeps close heads apart where a sum merges them).
    """
    padded = np.zeros((height + 2 * RADIUS, width + 2 * RADIUS), np.float32)
    if len(points):
        column, row = cells_of(points, height, width, stride)
        rows = row[:, None, None] + RADIUS + _OFFSETS[:, None]
        columns = column[:, None, None] + RADIUS + _OFFSETS
        np.maximum.at(padded, (rows, columns), KERNEL)
    return padded[RADIUS : RADIUS + height, RADIUS : RADIUS + width]


def cells_of(points: np.ndarray, height: int, width: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the cell that each point lies in, int64 [N] each; what lies outside goes to the border."""
    column = np.clip((points[:, 0] // stride).astype(np.int64), 0, width - 1)
    row = np.clip((points[:, 1] // stride).astype(np.int64), 0, height - 1)
    return column, row
