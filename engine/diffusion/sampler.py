"""The denoising loop: from noise to a head map, one decoder call and one DDIM update a step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from engine.diffusion.schedule import alpha_sigma, ddim_steps


class Denoiser(Protocol):
    """What the loop needs of a backend; arrays are the backend's own."""

    def decode(self, features: Any, x_t: Any, t: float) -> Any:
        """Estimate of the clean latent."""

    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        """One DDIM update, in place in ``x_t``, ``estimate`` and ``change``."""


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


def denoise(
    backend: Denoiser, features: Any, latents: Latents, steps: int, map_scale: float, start: float = 1.0
) -> None:
    """Run ``steps`` DDIM steps from t = ``start``; the result is left in ``latents.estimate`` and ``latents.change``.

    Source: DDP (ICCV 2023): deterministic DDIM on x_0 predictions clamped to +-``map_scale``; its
    uncertainty is how much the prediction still changes between steps.
    """
    for number, step in enumerate(ddim_steps(steps, start)):
        x_0 = backend.decode(features, latents.x_t, step.t)
        # The first estimate has nothing to differ from.
        change_weight = 1 / (2 * map_scale * (steps - 1)) if number else 0.0
        coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, map_scale, change_weight)
        backend.ddim_update(latents.x_t, x_0, latents.estimate, latents.change, coefficients)


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
