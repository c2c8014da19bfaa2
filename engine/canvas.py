"""Lays the latents of a picture's tiles together into its head maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.counting import HeadMaps
from engine.preprocess import Tile


class Canvas:
    """The head maps of one picture, filled tile by tile.

    Args:
        height, width: of the picture, in pixels.

    Attributes:
        shape: (h, w) of the maps, in cells.
    """

    def __init__(self, height: int, width: int, model: ModelConfig):
        self._model = model
        self.shape = -(-height // model.map_stride), -(-width // model.map_stride)
        self._heatmap = np.zeros(self.shape, np.float32)
        self._spread = np.zeros(self.shape, np.float32)
        self._expected = 0.0

    def paste(
        self, tile: Tile, estimates: Sequence[np.ndarray], changes: Sequence[np.ndarray], density: np.ndarray
    ) -> None:
        """Add the core of one tile.

        Args:
            estimates: clean latents [1, L, h, w] in -b .. b, one for each sample.
            changes: step-to-step changes [1, L, h, w], one for each sample.
            density: expected heads in each 8x8 block [1, 1, h, w].

        The heat map is the mean of the samples; the spread is their mean change from step to step
        plus the standard deviation between them.
        """
        scale = np.float32(1 / (2 * self._model.map_scale))
        mean, spread = estimates[0], changes[0]
        if len(estimates) > 1:
            mean = np.mean(estimates, axis=0)
            spread = np.mean(changes, axis=0) + scale * np.std(estimates, axis=0)
        stride = self._model.map_stride
        here = _cells(tile.core_top, tile.core_bottom, stride), _cells(tile.core_left, tile.core_right, stride)
        there = _core(tile, stride)
        self._heatmap[here] = np.clip(self._unfold(mean)[there] * scale + np.float32(0.5), 0, 1)
        self._spread[here] = np.clip(self._unfold(spread)[there], 0, 1)
        self._expected += float(density[0, 0][_core(tile, FEATURE_STRIDE)].sum(dtype=np.float64))

    def _unfold(self, latent: np.ndarray) -> np.ndarray:
        """Depth to space: [1, r * r, h, w] -> [h * r, w * r]."""
        factor = FEATURE_STRIDE // self._model.map_stride
        height, width = latent.shape[2:]
        patches = latent.reshape(factor, factor, height, width).transpose(2, 0, 3, 1)
        return patches.reshape(height * factor, width * factor)

    def maps(self, has_spread: bool) -> HeadMaps:
        """The maps of all tiles pasted so far."""
        return HeadMaps(self._heatmap, self._spread, self._expected, has_spread)


def _cells(start: int, end: int, stride: int) -> slice:
    return slice(start // stride, -(-end // stride))


def _core(tile: Tile, stride: int) -> tuple[slice, slice]:
    """The cells of the tile's core, counted from the tile's own corner."""
    rows = _cells(tile.core_top - tile.top, tile.core_bottom - tile.top, stride)
    return rows, _cells(tile.core_left - tile.left, tile.core_right - tile.left, stride)
