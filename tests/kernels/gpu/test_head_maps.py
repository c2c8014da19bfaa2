"""The Triton kernel of the head maps: near the oracle, and bit for bit what the CPU path computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import GPU_KERNELS

from engine.config import ModelConfig
from engine.diffusion.latent import head_maps as cpu_head_maps
from engine.kernels import reference
from engine.kernels.head_maps import head_maps

TOLERANCE = GPU_KERNELS["head_maps", "torch.float32"]
# (samples, r, h, w), and the window (top, left, height, width): one cell, all, odd parts, more cells than a block.
CASES = [
    ((1, 4, 1, 1), (0, 0, 1, 1)),
    ((1, 4, 2, 3), (0, 0, 8, 12)),
    ((2, 4, 3, 70), (1, 3, 9, 275)),
    ((5, 2, 9, 4), (2, 1, 15, 7)),
    ((3, 1, 6, 5), (5, 0, 1, 5)),
    ((2, 8, 2, 3), (7, 9, 9, 15)),
]


def _latents(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    samples, factor, height, width = shape
    rng = np.random.default_rng(seed)
    # A little beyond -b .. b, so that both ends are clipped.
    estimates = rng.uniform(-0.3, 0.3, (samples, factor * factor, height, width)).astype(np.float32)
    return estimates, rng.uniform(0, 1, estimates.shape).astype(np.float32)


def _on_device(estimates: np.ndarray, changes: np.ndarray, window: tuple[int, ...], device: str) -> list[np.ndarray]:
    maps = head_maps(*(torch.from_numpy(x).to(device) for x in (estimates, changes)), 2.0, window)
    return [x.cpu().numpy() for x in maps]


@pytest.mark.parametrize(("shape", "window"), CASES, ids=str)
def test_kernel_is_the_oracle(shape: tuple[int, ...], window: tuple[int, ...], device: str) -> None:
    latents = _latents(shape)
    ours, expected = _on_device(*latents, window, device), reference.head_maps(*latents, 2.0, window)
    for a, b in zip(ours, expected, strict=True):
        assert a.shape == window[2:]
        np.testing.assert_allclose(a, b, atol=TOLERANCE.absolute, rtol=TOLERANCE.relative)


@pytest.mark.parametrize("samples", [1, 2, 3, 7])
def test_kernel_is_the_cpu_path_bit_for_bit(samples: int, device: str) -> None:
    estimates, changes = _latents((samples, 4, 8, 12), seed=samples)
    estimates[0, 3, 4, 5] = changes[-1, 7, 4, 1] = np.nan
    expected = cpu_head_maps(list(estimates[:, None]), list(changes[:, None]), ModelConfig())
    ours = _on_device(estimates, changes, (0, 0, 32, 48), device)
    part = _on_device(estimates, changes, (16, 5, 14, 33), device)
    for whole, window, cpu in zip(ours, part, expected, strict=True):
        assert np.isnan(cpu).any()
        assert np.array_equal(whole, cpu, equal_nan=True)
        assert np.array_equal(window, cpu[16:30, 5:38], equal_nan=True)


def test_rejects(device: str) -> None:
    latents = torch.zeros((1, 16, 2, 3), device=device)
    with pytest.raises(ValueError, match=r"window .* must lie within 8 x 12 cells"):
        head_maps(latents, latents, 2.0, (1, 0, 8, 12))
    with pytest.raises(ValueError, match=r"latents must be \[S, r \* r, h, w\]"):
        head_maps(latents[:, :8].contiguous(), latents[:, :8].contiguous(), 2.0, (0, 0, 1, 1))
    with pytest.raises(ValueError, match="changes must be contiguous float32"):
        head_maps(latents, latents[:, :, :1], 2.0, (0, 0, 1, 1))
