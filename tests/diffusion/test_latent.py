"""Latents -> head maps."""

from __future__ import annotations

import numpy as np

from engine.config import ModelConfig
from engine.diffusion.latent import fold_map, head_maps

MODEL = ModelConfig()


def _fold(heatmap: np.ndarray) -> np.ndarray:
    """Head map -> latent by slicing: channel 4 * dy + dx holds the cells (dy, dx) of each 4 x 4 patch."""
    return np.stack([heatmap[dy::4, dx::4] for dy in range(4) for dx in range(4)])[None]


def test_a_folded_map_is_unfolded_and_scaled() -> None:
    heat, change = np.random.default_rng(0).random((2, 12, 20)).astype(np.float32)
    latent = _fold((2 * heat - 1) * np.float32(MODEL.map_scale))
    heatmap, spread = head_maps([latent], [_fold(change)], MODEL)
    assert np.allclose(heatmap, heat, atol=1e-6)
    assert np.array_equal(spread, change)
    assert heatmap.dtype == spread.dtype == np.float32


def test_samples_are_averaged_and_their_deviation_is_spread() -> None:
    low, high = (np.full((1, 16, 4, 4), x * MODEL.map_scale, np.float32) for x in (-1, 0))
    still = np.zeros_like(low)
    heatmap, spread = head_maps([low, high], [still, still + 0.1], MODEL)
    # Heat 0 and 0.5: mean 0.25, deviation 0.25; mean change 0.05.
    assert np.allclose(heatmap, 0.25)
    assert np.allclose(spread, 0.30)


def test_values_outside_the_range_are_clipped() -> None:
    wild = np.array([-1.0, 1.0] * 8, np.float32).reshape(1, 16, 1, 1)
    heatmap, spread = head_maps([wild], [2 * np.abs(wild)], MODEL)
    assert set(heatmap.ravel()) == {0.0, 1.0}
    assert set(spread.ravel()) == {1.0}


def test_folding_undoes_unfolding_and_pads_with_nobody() -> None:
    heat = np.random.default_rng(1).random((10, 17)).astype(np.float32)
    padded = np.zeros((12, 20), np.float32)
    padded[:10, :17] = heat
    latent = fold_map(heat, (1, 16, 3, 5), MODEL)
    assert latent.dtype == np.float32
    assert np.allclose(latent, _fold((2 * padded - 1) * np.float32(MODEL.map_scale)), atol=1e-7)
    assert np.allclose(head_maps([latent], [latent], MODEL)[0], padded, atol=1e-6)
    # A map that reaches further is cut to what the latent has room for.
    assert np.array_equal(
        fold_map(np.pad(heat, 9), (1, 16, 1, 1), MODEL), fold_map(np.pad(heat, 9)[:4, :4], (1, 16, 1, 1), MODEL)
    )
