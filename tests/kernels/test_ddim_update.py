"""The DDIM update: the oracle on known cases, the C++ kernel against the oracle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tolerances import FLOAT64, KERNELS

from engine import _core
from engine.diffusion.sampler import ddim_steps
from engine.kernels import reference

TOLERANCE = KERNELS["ddim_update"]
COEFFICIENTS = (0.4, 0.9, 0.6, 0.8, 1.0, 0.5)
SHAPES = [(1,), (7,), (1, 1, 1, 1), (3, 5, 7), (2, 4, 33, 31), (32768,), (32769,), (5, 40001), (0, 3)]


def _arrays(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """x_t, x_0, estimate, change."""
    return np.random.default_rng(seed).standard_normal((4, *shape)).astype(np.float32)


def _update(arrays: np.ndarray, coefficients: tuple[float, ...] = COEFFICIENTS, threads: int = 1) -> list[np.ndarray]:
    """(x_t', estimate', change') of the kernel; it must not write to x_0."""
    x_t, x_0, estimate, change = (a.copy() for a in arrays)
    _core.ddim_update(x_t, x_0, estimate, change, coefficients, threads=threads)
    assert np.array_equal(x_0, arrays[1], equal_nan=True)
    return [x_t, estimate, change]


def _assert_close(ours: list[np.ndarray], expected: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE.absolute, rtol=TOLERANCE.relative)


def test_oracle_by_hand() -> None:
    # new = 1 (clamped), noise = (3 - 0.5 * 1) / 0.5 = 5.
    x_t, estimate, change = reference.ddim_update([3.0], [7.0], [0.25], [0.5], (0.5, 0.5, 2.0, 0.1, 1.0, 4.0))
    assert (x_t[0], estimate[0], change[0]) == pytest.approx((2 * 1 + 0.1 * 5, 1.0, 0.5 + 4 * 0.75))


def test_oracle_recovers_the_noise() -> None:
    # If x_0 is the truth, the step lands where the same noise would have put the map at the next time.
    clean, noise = np.random.default_rng(1).uniform(-1, 1, (2, 50))
    for step in ddim_steps(5):
        x_t = step.alpha * clean + step.sigma * noise
        coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, 1.0, 0.0)
        moved, _, _ = reference.ddim_update(x_t, clean, clean, clean, coefficients)
        expected = step.alpha_next * clean + step.sigma_next * noise
        np.testing.assert_allclose(moved, expected, atol=FLOAT64.absolute, rtol=FLOAT64.relative)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_is_the_oracle(shape: tuple[int, ...], threads: int) -> None:
    arrays = _arrays(shape)
    _assert_close(_update(arrays, threads=threads), reference.ddim_update(*arrays, COEFFICIENTS))


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_kernel_is_the_oracle_along_a_schedule(steps: int) -> None:
    arrays = _arrays((3, 50))
    for step in ddim_steps(steps):
        coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, 0.1, 1 / steps)
        ours = _update(arrays, coefficients)
        _assert_close(ours, reference.ddim_update(*arrays, coefficients))
        arrays[0], arrays[2], arrays[3] = ours


def test_no_noise_left() -> None:
    # sigma = 0 at t = 0: sigma_next is 0 too, and the bound on sigma keeps 0 / 0 away.
    arrays = _arrays((64,))
    coefficients = (1.0, 0.0, 1.0, 0.0, 0.5, 1.0)
    moved, estimate, _ = _update(arrays, coefficients)
    assert np.array_equal(moved, np.clip(arrays[1], -0.5, 0.5))
    assert np.array_equal(estimate, moved)


def test_nan_and_infinity() -> None:
    arrays = _arrays((40,))
    arrays[1, 3], arrays[1, 5], arrays[1, 7] = np.nan, np.inf, -np.inf
    ours = _update(arrays)
    _assert_close(ours, reference.ddim_update(*arrays, COEFFICIENTS))
    assert np.isnan([a[3] for a in ours]).all()
    assert (ours[1][5], ours[1][7]) == (1.0, -1.0)


def test_threads_do_not_change_the_result() -> None:
    arrays = _arrays((5, 40001))
    one = _update(arrays, threads=1)
    for threads in (0, 2, 5):
        assert all(np.array_equal(a, b) for a, b in zip(_update(arrays, threads=threads), one, strict=True))


def test_concurrent_calls_do_not_change_the_result() -> None:
    batches = [_arrays((90000 + i,), seed=i) for i in range(6)]
    expected = [_update(arrays) for arrays in batches]
    with ThreadPoolExecutor(3) as pool:
        for ours, theirs in zip(pool.map(lambda a: _update(a, threads=3), batches), expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["x_t", "x_0", "estimate", "change"])
def test_rejects_arrays(name: str) -> None:
    good = dict(zip(["x_t", "x_0", "estimate", "change"], _arrays((4, 6)), strict=True))
    strided = np.zeros((4, 12), np.float32)[:, ::2]
    with pytest.raises(ValueError, match=f"{name} must be float32, got float64"):
        _core.ddim_update(**good | {name: good[name].astype(np.float64)}, coefficients=COEFFICIENTS)
    with pytest.raises(ValueError, match="must have shape"):
        _core.ddim_update(**good | {name: np.zeros((4, 5), np.float32)}, coefficients=COEFFICIENTS)
    with pytest.raises(ValueError, match=f"{name} must be C-contiguous"):
        _core.ddim_update(**good | {name: strided}, coefficients=COEFFICIENTS)


@pytest.mark.parametrize("name", ["x_t", "estimate", "change"])
def test_rejects_read_only_arrays(name: str) -> None:
    good = dict(zip(["x_t", "x_0", "estimate", "change"], _arrays((4, 6)), strict=True))
    good[name] = np.broadcast_to(np.float32(0), (4, 6)).copy()
    good[name].flags.writeable = False
    with pytest.raises(ValueError, match=f"{name} is written to"):
        _core.ddim_update(**good, coefficients=COEFFICIENTS)


def test_accepts_a_read_only_x_0() -> None:
    x_t, x_0, estimate, change = _arrays((4, 6))
    x_0 = x_0.copy()
    x_0.flags.writeable = False
    _core.ddim_update(x_t, x_0, estimate, change, COEFFICIENTS)
    assert np.array_equal(estimate, np.clip(x_0, -1, 1))


@pytest.mark.parametrize("pair", [(0, 1), (0, 2), (1, 2), (2, 3), (1, 3)], ids=str)
def test_rejects_shared_memory(pair: tuple[int, int]) -> None:
    arrays = list(_arrays((24,)))
    memory = np.zeros(25, np.float32)
    arrays[pair[0]], arrays[pair[1]] = memory[:-1], memory[1:]
    with pytest.raises(ValueError, match="must not share memory"):
        _core.ddim_update(*arrays, COEFFICIENTS)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ((1.0,) * 5, r"6 numbers .* got shape \(5,\)"),
        ([[1.0] * 6], r"got shape \(1, 6\)"),
        ((1.0, np.nan, 1.0, 1.0, 1.0, 1.0), "NaN at index 1"),
        ((1.0, 1.0, 1.0, 1.0, -1.0, 1.0), "limit must be at least 0"),
    ],
)
def test_rejects_coefficients(coefficients: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.ddim_update(*_arrays((4,)), coefficients)
