"""Points -> the maps the network learns."""

from __future__ import annotations

import numpy as np

# Counting redraws heads as it learned them, so the map's definition lies in the core.
from engine.head_map import cells_of
from engine.head_map import head_map as head_map


def block_counts(points: np.ndarray, height: int, width: int, stride: int) -> np.ndarray:
    """Heads in each ``stride`` x ``stride`` block: float32 [height, width]."""
    counts = np.zeros((height, width), np.float32)
    if len(points):
        column, row = cells_of(points, height, width, stride)
        np.add.at(counts, (row, column), 1)
    return counts
