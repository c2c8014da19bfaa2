"""The Triton kernel of the DDIM update against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import GPU_KERNELS

from engine.diffusion.sampler import ddim_steps
from engine.kernels import reference
from engine.kernels.ddim_update import ddim_update

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
# Around the block of 1024, and a latent.
SHAPES = [(1,), (7,), (1024,), (1025,), (3000,), (2, 16, 5, 7)]


def _maps(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    x_t, x_0, estimate, change = (torch.from_numpy(rng.standard_normal(shape)).float().to(device) for _ in range(4))
    return [x_t.to(dtype), x_0 * 0.3, estimate.clamp(-0.25, 0.25), change.abs()]


def _coefficients(device: str) -> torch.Tensor:
    """[steps, 6], as on the device: a launch reads one row of them."""
    steps = ddim_steps(3)
    rows = [(s.alpha, s.sigma, s.alpha_next, s.sigma_next, 0.25, i / 2) for i, s in enumerate(steps)]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def _assert_oracle(maps: list[torch.Tensor], coefficients: torch.Tensor) -> None:
    x_t, x_0, estimate, change = maps
    numbers = [float(x) for x in coefficients.cpu().double()]
    expected = reference.ddim_update(*(x.double().cpu().numpy() for x in maps), numbers)
    kept = x_0.clone()
    ddim_update(x_t, x_0, estimate, change, coefficients)
    assert torch.equal(x_0.nan_to_num(7.0), kept.nan_to_num(7.0))
    exact, typed = (GPU_KERNELS["ddim_update", kind] for kind in ("torch.float32", str(x_t.dtype)))
    for ours, theirs, tolerance in zip((x_t, estimate, change), expected, (typed, exact, exact), strict=True):
        np.testing.assert_allclose(
            ours.double().cpu().numpy(), theirs, atol=tolerance.absolute, rtol=tolerance.relative
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_the_oracle(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    for row in _coefficients(device):
        _assert_oracle(_maps(shape, dtype, device), row)


def test_nothing_behind_the_map_is_touched(device: str) -> None:
    padded = [torch.full((1030,), 7.0, device=device) for _ in range(4)]
    for x, values in zip(padded, _maps((1025,), torch.float32, device), strict=True):
        x[:1025] = values
    _assert_oracle([x[:1025] for x in padded], _coefficients(device)[1])
    for x in padded:
        assert (x[1025:] == 7).all()


def test_nan_and_infinity_pass_as_in_the_oracle(device: str) -> None:
    maps = _maps((6,), torch.float32, device)
    maps[1][:4] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.1], device=device)
    maps[0][4] = torch.nan
    maps[2][5] = torch.nan
    _assert_oracle(maps, _coefficients(device)[1])


def test_sigma_of_zero_divides_by_the_smallest_scale(device: str) -> None:
    coefficients = torch.tensor([1.0, 0.0, 0.5, 1e-8, 0.25, 1.0], device=device)
    _assert_oracle(_maps((9,), torch.float32, device), coefficients)


def test_rejects(device: str) -> None:
    x_t, x_0, estimate, change = _maps((4, 6), torch.float16, device)
    row = _coefficients(device)[0]
    with pytest.raises(ValueError, match="x_0 must be float32"):
        ddim_update(x_t, x_0.half(), estimate, change, row)
    with pytest.raises(ValueError, match="x_t must be float16"):
        ddim_update(x_t.int(), x_0, estimate, change, row)
    with pytest.raises(ValueError, match="must be contiguous, of one shape"):
        ddim_update(x_t, x_0[:2], estimate, change, row)
    with pytest.raises(ValueError, match="must be contiguous, of one shape"):
        ddim_update(x_t.T, x_0.T, estimate.T, change.T, row)
    with pytest.raises(ValueError, match="coefficients must be 6"):
        ddim_update(x_t, x_0, estimate, change, row[:5])
