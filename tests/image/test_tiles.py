"""Padding, normalisation and tiling."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import PADDING, ModelConfig
from engine.image.tiles import plan_tiles, to_input

MODEL = ModelConfig()


@pytest.mark.parametrize("size", [(1, 1), (1, 77), (31, 33), (32, 64), (45, 100)])
def test_input_is_normalised_and_padded_with_the_mean_pixel(size: tuple[int, int]) -> None:
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    tensor = to_input(image, MODEL)
    assert tensor.dtype == np.float32
    assert tensor.shape[:2] == (1, 3)
    assert all(side % PADDING == 0 and 0 <= side - n < PADDING for side, n in zip(tensor.shape[2:], size, strict=True))
    expected = (image.astype(np.float64) / 255 - MODEL.pixel_mean) / MODEL.pixel_std
    assert np.allclose(tensor[0, :, :height, :width], expected.transpose(2, 0, 1), atol=1e-5)
    assert not tensor[:, :, height:].any()
    assert not tensor[:, :, :, width:].any()


@pytest.mark.parametrize("size", [(100, 100), (200, 51), (257, 1000), (1000, 257), (999, 999), (1, 20000)])
def test_tile_cores_cover_every_pixel_once(size: tuple[int, int]) -> None:
    covered = np.zeros(size, int)
    tiles = plan_tiles(*size, max_pixels=128 * 128, side=128, halo=16)
    for tile in tiles:
        covered[tile.core_top : tile.core_bottom, tile.core_left : tile.core_right] += 1
        assert all(x % PADDING == 0 for x in (tile.core_top, tile.core_left))
        # Blocks of the condition map must not straddle two tiles.
        assert all(x % 8 == 0 for x in (tile.top, tile.left))
    assert (covered == 1).all()


def test_tiles_see_their_halo_and_stay_inside() -> None:
    height, width, halo = 3000, 5000, 128
    for tile in plan_tiles(height, width):
        assert tile.top == max(tile.core_top - halo, 0)
        assert tile.left == max(tile.core_left - halo, 0)
        assert tile.bottom == min(tile.core_bottom + halo, height)
        assert tile.right == min(tile.core_right + halo, width)
        assert (tile.bottom - tile.top) * (tile.right - tile.left) <= 1600 * 1600


def test_a_line_of_pixels_is_cut_as_the_picture_is_that_the_network_sees() -> None:
    """Of 1 x 4,194,304 pixels the network sees 32 rows: 134 million pixels, some 33 GB of activations."""
    tiles = plan_tiles(1, 2048 * 2048)
    assert max(tile.right - tile.left for tile in tiles) <= 1600
    assert len(plan_tiles(1, 2048 * 64)) == 1


def test_ordinary_pictures_run_in_one_piece() -> None:
    (tile,) = plan_tiles(1080, 1920)
    assert (tile.top, tile.left, tile.bottom, tile.right) == (0, 0, 1080, 1920)
