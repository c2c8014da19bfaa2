"""Laying latents together into maps."""

from __future__ import annotations

import numpy as np
import pytest

from engine.canvas import Canvas
from engine.config import ModelConfig
from engine.preprocess import plan_tiles

MODEL = ModelConfig()


def _fold(heatmap: np.ndarray) -> np.ndarray:
    """Head map -> latent by slicing: channel 4 * dy + dx holds the cells (dy, dx) of each 4 x 4 patch."""
    return np.stack([heatmap[dy::4, dx::4] for dy in range(4) for dx in range(4)])[None]


def _padded(shape: tuple[int, int], multiple: int) -> tuple[int, int]:
    return -(-shape[0] // multiple) * multiple, -(-shape[1] // multiple) * multiple


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (200, 333), (31, 500)])
def test_tiles_of_one_map_give_that_map_back(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    whole = rng.random(_padded(size, 64)).astype(np.float32)  # more cells than pixels / 2 are ever read
    change = rng.random(whole.shape).astype(np.float32)
    blocks = rng.random(_padded(size, 8)).astype(np.float32)
    canvas = Canvas(*size, MODEL)
    for tile in plan_tiles(*size, max_pixels=96 * 96, side=96, halo=16):
        height, width = _padded((tile.bottom - tile.top, tile.right - tile.left), 32)
        cells = np.s_[tile.top // 2 : (tile.top + height) // 2, tile.left // 2 : (tile.left + width) // 2]
        eighths = np.s_[tile.top // 8 : (tile.top + height) // 8, tile.left // 8 : (tile.left + width) // 8]
        latent = _fold((2 * whole[cells] - 1) * np.float32(MODEL.map_scale))
        canvas.paste(tile, [latent], [_fold(change[cells])], blocks[eighths][None, None])
    maps = canvas.maps(has_spread=True)
    rows, columns = -(-size[0] // 2), -(-size[1] // 2)
    assert np.allclose(maps.heatmap, whole[:rows, :columns], atol=1e-6)
    assert np.array_equal(maps.spread, change[:rows, :columns])
    assert maps.expected == pytest.approx(float(blocks[: -(-size[0] // 8), : -(-size[1] // 8)].sum()), rel=1e-5)


def test_samples_are_averaged_and_their_deviation_is_spread() -> None:
    (tile,) = plan_tiles(32, 32)
    low, high = (np.full((1, 16, 4, 4), x * MODEL.map_scale, np.float32) for x in (-1, 0))
    still = np.zeros_like(low)
    canvas = Canvas(32, 32, MODEL)
    canvas.paste(tile, [low, high], [still, still + 0.1], np.ones((1, 1, 4, 4), np.float32))
    maps = canvas.maps(has_spread=True)
    # Heat 0 and 0.5: mean 0.25, deviation 0.25; mean change 0.05.
    assert np.allclose(maps.heatmap, 0.25)
    assert np.allclose(maps.spread, 0.30)
    assert maps.expected == 16
