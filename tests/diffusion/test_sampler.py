"""The denoising loop with decoders whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import ModelConfig
from engine.diffusion.sampler import (
    Latents,
    Request,
    Start,
    add_noise,
    alpha_sigma,
    denoise,
    infer,
    initial_noise,
)
from engine.kernels import reference
from engine.system.stopwatch import Stopwatch

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


class SmallNetwork(OracleBackend):
    """A network on the host whose decoder halves the latent that it is given."""

    model = ModelConfig()

    def __init__(self):
        super().__init__(lambda features, x_t, t: features * x_t)

    def prepare(self, tile):
        return tile.sum()

    def encode(self, image):
        return 0.5, np.full((1, 1, 3, 5), image), np.full((1, 7), 2 * image)

    def upload(self, array):
        return array.astype(np.float64)

    def download(self, array):
        return array.astype(np.float32)


@pytest.mark.parametrize("start", [None, Start(np.full((12, 20), 0.5, np.float32), 0.6)])
@pytest.mark.parametrize(("samples", "seed"), [(1, 0), (3, 5)])
def test_each_sample_is_denoised_from_noise_of_its_own(start: Start | None, samples: int, seed: int) -> None:
    tile, b = np.ones((24, 33, 3), np.uint8), SmallNetwork.model.map_scale
    maps = infer(SmallNetwork(), tile, Request(2, samples, seed, None, start), Stopwatch())
    first, second, moved = [], [], []
    for sample in range(samples):
        noise, t = initial_noise(seed, (1, 16, 4, 8), sample).astype(np.float64), start.t if start else 1.0
        latent = noise
        if start:
            # The middle of its range is 0, where the map is 0.5; the network pads the picture by nobody.
            clean = np.full(noise.shape, -b)
            clean[:, :, :3, :5] = 0
            latent = alpha_sigma(t)[0] * clean + alpha_sigma(t)[1] * noise
        first.append(np.clip(latent / 2, -b, b))
        x_t, _, _ = reference.ddim_update(
            latent,
            latent / 2,
            np.zeros_like(latent),
            np.zeros_like(latent),
            (*alpha_sigma(t), *alpha_sigma(0.0), b, 0.0),
        )
        second.append(np.clip(x_t / 2, -b, b))
        moved.append(np.abs(second[-1] - first[-1]) / (2 * b))
    heads = np.mean(second, axis=0) / (2 * b) + 0.5
    spread = np.mean(moved, axis=0) + np.std(second, axis=0) / (2 * b)

    def unfolded(latent: np.ndarray) -> np.ndarray:
        return latent.reshape(4, 4, 4, 8).transpose(2, 0, 3, 1).reshape(16, 32)

    np.testing.assert_allclose(maps.heatmap, unfolded(heads), atol=1e-5)
    np.testing.assert_allclose(maps.spread, np.minimum(unfolded(spread), 1), atol=1e-5)
    assert (maps.rate == tile.sum()).all()
    assert (maps.signature == 2 * tile.sum()).all()
    assert (maps.rate.shape, maps.signature.shape) == ((3, 5), (7,))
