"""The denoising loop with decoders whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from engine.diffusion.sampler import Latents, add_noise, alpha_sigma, denoise, initial_noise
from engine.kernels import reference

SHAPE = (1, 16, 3, 5)
LIMIT = 0.25


class OracleBackend:
    """The DDIM update of the float64 oracle, and a decoder that is given."""

    def __init__(self, decode):
        self.answer, self.times = decode, []

    def decode(self, features, x_t, t):
        self.times.append(t)
        return self.answer(features, x_t, t)

    def ddim_update(self, x_t, x_0, estimate, change, coefficients):
        x_t[:], estimate[:], change[:] = reference.ddim_update(x_t, x_0, estimate, change, coefficients)


def _latents() -> Latents:
    return Latents(np.array(initial_noise(0, SHAPE, 0), np.float64), np.zeros(SHAPE), np.zeros(SHAPE))


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_perfect_decoder_gives_its_map_and_no_change(steps: int) -> None:
    truth = np.random.default_rng(1).uniform(-LIMIT, LIMIT, SHAPE)
    backend, latents = OracleBackend(lambda *_: truth), _latents()
    denoise(backend, None, latents, steps, LIMIT)
    assert np.allclose(latents.estimate, truth)
    assert np.all(latents.change == 0)
    assert np.allclose(backend.times, [1 - s / steps for s in range(steps)])
    # After the last update, x_t is the clean map plus the little noise left at t = 0.
    assert np.abs(latents.x_t - truth).max() < 0.05


def test_change_is_the_mean_share_of_the_range_that_estimates_move() -> None:
    answers = iter([np.full(SHAPE, -LIMIT), np.full(SHAPE, LIMIT), np.full(SHAPE, 0.0)])
    latents = _latents()
    denoise(OracleBackend(lambda *_: next(answers)), None, latents, 3, LIMIT)
    # Whole range up, half of it back: (1 + 0.5) / 2.
    assert np.allclose(latents.change, 0.75)
    assert np.allclose(latents.estimate, 0)


def test_estimates_are_clamped() -> None:
    latents = _latents()
    denoise(OracleBackend(lambda *_: np.full(SHAPE, 9.0)), None, latents, 2, LIMIT)
    assert np.all(latents.estimate == LIMIT)


def test_noise_is_standard_normal_and_keyed_by_seed_shape_and_sample() -> None:
    shape = (1, 16, 64, 64)
    noise = initial_noise(0, shape, 0)
    assert noise.dtype == np.float32
    assert noise.shape == shape
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert np.array_equal(noise, initial_noise(0, shape, 0))
    for other in (initial_noise(1, shape, 0), initial_noise(0, shape, 1)):
        assert abs(float(np.corrcoef(noise.ravel(), other.ravel())[0, 1])) < 0.02
    with pytest.raises(ValueError, match="read-only"):
        noise[0] = 0


def test_a_start_in_between_shortens_the_way() -> None:
    truth = np.random.default_rng(1).uniform(-LIMIT, LIMIT, SHAPE)
    backend, latents = OracleBackend(lambda *_: truth), _latents()
    denoise(backend, None, latents, 2, LIMIT, start=0.6)
    assert np.allclose(backend.times, [0.6, 0.3])
    assert np.allclose(latents.estimate, truth)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.7, 1.0])
def test_noise_is_added_as_the_schedule_says(t: float) -> None:
    x_0 = np.random.default_rng(2).uniform(-LIMIT, LIMIT, SHAPE).astype(np.float32)
    noise = initial_noise(0, SHAPE, 0)
    alpha, sigma = alpha_sigma(t)
    noisy = add_noise(x_0, noise, t)
    assert noisy.dtype == np.float32
    assert np.allclose(noisy, alpha * x_0.astype(np.float64) + sigma * noise, atol=1e-6)
