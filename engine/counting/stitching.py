"""Lays the maps of a picture's tiles together."""

from __future__ import annotations

import numpy as np

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.counting.heads import HeadMaps
from engine.diffusion.latent import TileMaps
from engine.image.tiles import Tile


class Canvas:
    """The head maps of one picture, filled tile by tile.

    Args:
        height, width: of the picture, in pixels.

    Attributes:
        shape: (h, w) of the maps, in cells.
        peaks: points and scores, where the backend has found those of the whole picture.
    """

    def __init__(self, height: int, width: int, model: ModelConfig):
        self._stride = model.map_stride
        self.shape = -(-height // self._stride), -(-width // self._stride)
        self._heatmap = np.zeros(self.shape, np.float32)
        self._spread = np.zeros(self.shape, np.float32)
        self._expected = 0.0
        self.peaks: tuple[np.ndarray, np.ndarray] | None = None

    def paste(self, tile: Tile, maps: TileMaps) -> None:
        """Copy the core of one tile; its halo and padding are left out."""
        rows = _cells(tile.core_top, tile.core_bottom, self._stride)
        columns = _cells(tile.core_left, tile.core_right, self._stride)
        core = _core(tile, self._stride)
        self._heatmap[rows, columns] = maps.heatmap[core]
        self._spread[rows, columns] = maps.spread[core]
        # A backend looks for peaks only where one tile is the whole picture.
        self.peaks = maps.peaks
        self._expected += float(maps.density[_core(tile, FEATURE_STRIDE)].sum(dtype=np.float64))

    def maps(self, has_spread: bool) -> HeadMaps:
        """The maps of all tiles pasted so far."""
        return HeadMaps(self._heatmap, self._spread, self._expected, has_spread)


def _cells(start: int, end: int, stride: int) -> slice:
    return slice(start // stride, -(-end // stride))


def _core(tile: Tile, stride: int) -> tuple[slice, slice]:
    """The cells of the tile's core, counted from the tile's own corner."""
    rows = _cells(tile.core_top - tile.top, tile.core_bottom - tile.top, stride)
    return rows, _cells(tile.core_left - tile.left, tile.core_right - tile.left, stride)
