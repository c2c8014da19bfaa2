"""The network's whole work on one tile: encode once, denoise from noise to a head map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from engine.config import ModelConfig
from engine.diffusion.latent import TileMaps, fold_map, head_maps, latent_shape
from engine.system.stopwatch import Stopwatch

# Offset and stretch of the time axis, so that t = 0 and t = 1 stay inside the cosine's range (DDP).
_TIME_OFFSET = 2e-4
_TIME_STRETCH = 2.5e-4
# Smallest noise-to-signal ratio; bounds the log at t = 0.
_MIN_RATIO = 1e-5
# DDIM jumps this many extra steps ahead at each update (DDP's "time difference").
_TIME_DIFFERENCE = 1


class Denoiser(Protocol):
    """What the denoising loop needs of a network; arrays are the network's own."""

    def decode(self, features: Any, x_t: Any, t: float) -> Any:
        """Features [1, F, H/8, W/8], noisy latent [1, L, H/8, W/8] and time -> estimate x_0 of the clean latent."""

    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        """One DDIM update, in place in ``x_t``, ``estimate`` and ``change``: the kernel ``ddim_update``."""


class Network(Denoiser, Protocol):
    """An encoder and a decoder on some device, used by one thread at a time.

    What :meth:`encode` and :meth:`decode` return stays valid until they are called again.
    """

    @property
    def model(self) -> ModelConfig:
        """Shape of the network."""

    def prepare(self, tile: Any) -> Any:
        """Tile uint8 [H, W, 3] -> the normalised, padded image [1, 3, H', W'] that :meth:`encode` takes."""

    def encode(self, image: Any) -> tuple[Any, ...]:
        """Normalised image [1, 3, H, W] -> features [1, F, H/8, W/8], rate [1, 1, H/8, W/8], signature [1, S]."""

    def upload(self, array: np.ndarray) -> Any:
        """A writable float32 array of the network with the contents of ``array``."""

    def download(self, array: Any) -> np.ndarray:
        """The contents as a NumPy array of the host; may share memory."""


@dataclass(frozen=True)
class DDIMStep:
    """What one denoising step needs: its time, and (alpha, sigma) now and after the update.

    ``x_t = alpha * x_0 + sigma * noise``, with ``alpha**2 + sigma**2 == 1``.
    """

    t: float
    alpha: float
    sigma: float
    alpha_next: float
    sigma_next: float


@dataclass(frozen=True)
class Start:
    """A map to start the denoising from, in place of pure noise.

    Attributes:
        heatmap: float32 [h, w] in [0, 1], where the heads may be; beyond its ends there are none.
        t: how much noise it gets: 1 is noise alone.
    """

    heatmap: np.ndarray
    t: float


@dataclass(frozen=True)
class Request:
    """What to compute of a tile.

    Attributes:
        steps: of the sampler.
        samples: of the noise.
        seed: of the noise.
        threshold: of the heat map's peaks; None where the tile is one of several, as the picture's peaks are those of
            the stitched map.
        start: of the denoising; only for backends that say ``starts_warm``.
    """

    steps: int
    samples: int
    seed: int
    threshold: float | None
    start: Start | None = None

    def initial_latent(self, shape: tuple[int, ...], sample: int, model: ModelConfig) -> tuple[np.ndarray, float]:
        """The latent that the denoising of a sample starts from, float32 of ``shape``, and its time."""
        noise = initial_noise(self.seed, shape, sample)
        if self.start is None:
            return noise, 1.0
        return add_noise(fold_map(self.start.heatmap, shape, model), noise, self.start.t), self.start.t


@dataclass(frozen=True)
class Latents:
    """The loop's arrays, each [B, L, h, w] and updated in place.

    Attributes:
        x_t: the noisy latent; pure noise at the start.
        estimate: the last clamped estimate of the clean latent; zero at the start, the result at the end.
        change: mean absolute change of the estimate from step to step, as a share of the map's range.
    """

    x_t: Any
    estimate: Any
    change: Any


def infer(network: Network, tile: Any, request: Request, clock: Stopwatch) -> TileMaps:
    """Run the whole network on one tile: encode once, denoise ``request.samples`` times.

    Args:
        tile: uint8 [H, W, 3], RGB.
        clock: gets the laps "preprocess", "encode" and "denoise".

    Returns the maps of the tile and its padding; they may share memory with the network.
    """
    model = network.model
    image = network.prepare(tile)
    clock.lap("preprocess")
    features, rate, signature = network.encode(image)
    clock.lap("encode")
    height, width = tile.shape[:2]
    shape = latent_shape(height, width, model)
    estimates, changes = [], []
    for sample in range(request.samples):
        (x_t, t), zeros = request.initial_latent(shape, sample, model), np.zeros(shape, np.float32)
        latents = Latents(network.upload(x_t), network.upload(zeros), network.upload(zeros))
        denoise(network, features, latents, request.steps, model.map_scale, t)
        estimates.append(network.download(latents.estimate))
        changes.append(network.download(latents.change))
    maps = TileMaps(*head_maps(estimates, changes, model), network.download(rate)[0, 0], network.download(signature)[0])
    clock.lap("denoise")
    return maps


def denoise(
    denoiser: Denoiser, features: Any, latents: Latents, steps: int, map_scale: float, start: float = 1.0
) -> None:
    """Run ``steps`` DDIM steps from t = ``start``; the result is left in ``latents.estimate`` and ``latents.change``.

    Source: DDP (ICCV 2023): deterministic DDIM on x_0 predictions clamped to +-``map_scale``; its
    uncertainty is how much the prediction still changes between steps.
    """
    for number, step in enumerate(ddim_steps(steps, start)):
        x_0 = denoiser.decode(features, latents.x_t, step.t)
        # The first estimate has nothing to differ from.
        change_weight = 1 / (2 * map_scale * (steps - 1)) if number else 0.0
        coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, map_scale, change_weight)
        denoiser.ddim_update(latents.x_t, x_0, latents.estimate, latents.change, coefficients)


def alpha_sigma(t: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Signal and noise scale of the cosine log-SNR schedule at times ``t`` in [0, 1].

    Args:
        t: any shape; 0 is the clean map, 1 is pure noise.

    Returns:
        ``(alpha, sigma)``, float64, of the shape of ``t``.

    Source: DDP (ICCV 2023), ``logSNR(t) = -log(max(cos^-2(((t + ns) / (1 + ds)) * pi / 2) - 1, 1e-5))``.

    >>> alpha, sigma = alpha_sigma(np.array([0.0, 0.5, 1.0]))
    >>> bool(np.allclose(alpha**2 + sigma**2, 1))
    True
    >>> bool(alpha[0] > 0.999 and sigma[2] > 0.999)
    True
    """
    angle = (np.asarray(t, np.float64) + _TIME_OFFSET) / (1 + _TIME_STRETCH) * np.pi / 2
    ratio = np.maximum(np.cos(angle) ** -2 - 1, _MIN_RATIO)
    # sigmoid(logSNR) = 1 / (1 + ratio), since logSNR = -log(ratio).
    return np.sqrt(1 / (1 + ratio)), np.sqrt(ratio / (1 + ratio))


def ddim_steps(steps: int, start: float = 1.0) -> tuple[DDIMStep, ...]:
    """The schedule of ``steps`` deterministic DDIM steps (eta = 0), from t = ``start`` downwards.

    Source: DDP's sampler; step s of T goes from ``1 - s/T`` to ``max(1 - (s + 2)/T, 0)``, times ``start``.

    >>> [step.t for step in ddim_steps(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    assert steps >= 1
    schedule = []
    for s in range(steps):
        t = start * (1 - s / steps)
        t_next = start * max(1 - (s + 1 + _TIME_DIFFERENCE) / steps, 0.0)
        alpha, sigma = alpha_sigma(t)
        alpha_next, sigma_next = alpha_sigma(t_next)
        schedule.append(DDIMStep(t, float(alpha), float(sigma), float(alpha_next), float(sigma_next)))
    return tuple(schedule)


def add_noise(x_0: np.ndarray, noise: np.ndarray, t: float) -> np.ndarray:
    """The clean latent as it is at time ``t``: float32 ``alpha(t) * x_0 + sigma(t) * noise``."""
    alpha, sigma = (np.float32(scale) for scale in alpha_sigma(t))
    return alpha * x_0 + sigma * noise


@lru_cache(maxsize=16)
def initial_noise(seed: int, shape: tuple[int, ...], sample: int) -> np.ndarray:
    """Standard normal noise x_T, float32 of ``shape``, the same on every backend; read-only.

    Counter-based (Philox), keyed by seed, shape and sample number.
    """
    bits = np.random.Philox(np.random.SeedSequence((seed, sample, *shape)))
    noise = np.random.Generator(bits).standard_normal(shape, np.float32)
    noise.flags.writeable = False
    return noise
