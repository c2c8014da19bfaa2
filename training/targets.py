"""Points -> the counts that the encoder learns; the head map, which counting draws too, is in the core."""

from __future__ import annotations

import numpy as np

from engine.diffusion.head_map import cells_of


def block_counts(points: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Heads in each ``stride`` x ``stride`` block: float32 [height, width]."""
    counts = np.zeros((height, width), np.float32)
    if len(points):
        column, row = cells_of(points, height, width, stride)
        np.add.at(counts, (row, column), 1)
    return counts
