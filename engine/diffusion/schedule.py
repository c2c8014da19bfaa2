"""Cosine noise schedule and the coefficients of each DDIM step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Offset and stretch of the time axis, so that t = 0 and t = 1 stay inside the cosine's range (DDP).
_TIME_OFFSET = 2e-4
_TIME_STRETCH = 2.5e-4
# Smallest noise-to-signal ratio; bounds the log at t = 0.
_MIN_RATIO = 1e-5
# DDIM jumps this many extra steps ahead at each update (DDP's "time difference").
_TIME_DIFFERENCE = 1


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
