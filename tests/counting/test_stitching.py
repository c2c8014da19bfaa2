"""Laying tiles together."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import COMPONENTS, ModelConfig
from engine.counting.stitching import Canvas
from engine.diffusion.latent import TileMaps
from engine.image.tiles import plan_tiles


def _padded(shape: tuple[int, int], multiple: int) -> tuple[int, int]:
    return -(-shape[0] // multiple) * multiple, -(-shape[1] // multiple) * multiple


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (200, 333), (31, 500)])
def test_tiles_of_one_map_give_that_map_back(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    whole = rng.random(_padded(size, 64)).astype(np.float32)  # more cells than pixels / 2 are ever read
    change = rng.random(whole.shape).astype(np.float32)
    blocks = rng.random(_padded(size, 8)).astype(np.float32)
    # Each tile's signature is its mean row, so that the picture's is the mean row of all of it.
    mean_rows = 0.0
    canvas = Canvas(*size, ModelConfig())
    for tile in plan_tiles(*size, max_pixels=96 * 96, side=96, halo=16):
        height, width = _padded((tile.bottom - tile.top, tile.right - tile.left), 32)
        cells = np.s_[tile.top // 2 : (tile.top + height) // 2, tile.left // 2 : (tile.left + width) // 2]
        eighths = np.s_[tile.top // 8 : (tile.top + height) // 8, tile.left // 8 : (tile.left + width) // 8]
        middle = (tile.core_top + tile.core_bottom) / 2
        mean_rows += middle * (tile.core_bottom - tile.core_top) * (tile.core_right - tile.core_left) / np.prod(size)
        signature = np.full(COMPONENTS, middle, np.float32)
        canvas.paste(tile, TileMaps(whole[cells], change[cells], blocks[eighths], signature))
    maps = canvas.maps(has_spread=True)
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    assert np.array_equal(maps.heatmap, whole[:rows, :columns])
    assert np.array_equal(maps.spread, change[:rows, :columns])
    rate = blocks[: -(-size[0] // 8), : -(-size[1] // 8)]
    assert np.array_equal(maps.rate, rate)
    assert maps.cells == 4
    assert maps.expected == pytest.approx(float(rate.sum()), rel=1e-5)
    assert maps.distance == pytest.approx(size[0] / 2) == pytest.approx(mean_rows)
