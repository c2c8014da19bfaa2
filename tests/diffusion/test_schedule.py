"""The noise schedule against its formula, written out as in the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.diffusion.sampler import alpha_sigma, ddim_steps


def _paper(t: float) -> tuple[float, float]:
    log_snr = -math.log(max(math.cos(((t + 2e-4) / (1 + 2.5e-4)) * math.pi / 2) ** -2 - 1, 1e-5))
    sigmoid = 1 / (1 + math.exp(-log_snr))
    return math.sqrt(sigmoid), math.sqrt(1 / (1 + math.exp(log_snr)))


@pytest.mark.parametrize("t", [0.0, 1e-6, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1.0])
def test_alpha_sigma_follow_the_paper(t: float) -> None:
    alpha, sigma = alpha_sigma(t)
    assert (float(alpha), float(sigma)) == pytest.approx(_paper(t), rel=1e-9)


def test_alpha_sigma_keep_the_shape_and_the_variance() -> None:
    t = np.linspace(0, 1, 35).reshape(5, 7)
    alpha, sigma = alpha_sigma(t)
    assert alpha.shape == t.shape
    assert np.allclose(alpha**2 + sigma**2, 1, atol=1e-12)
    assert (np.diff(alpha.ravel()) <= 0).all()


def test_three_steps_visit_the_known_times() -> None:
    steps = ddim_steps(3)
    assert [s.t for s in steps] == pytest.approx([1, 2 / 3, 1 / 3])
    # With DDP's time difference of 1, each update jumps two steps ahead and stops at 0.
    assert [(s.alpha_next, s.sigma_next) for s in steps] == [pytest.approx(_paper(t)) for t in (1 / 3, 0, 0)]


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_schedules_start_at_noise_and_end_at_the_clean_map(count: int) -> None:
    steps = ddim_steps(count)
    assert len(steps) == count
    assert steps[0].t == 1.0
    assert (steps[-1].alpha_next, steps[-1].sigma_next) == pytest.approx(_paper(0.0))


@pytest.mark.parametrize("start", [1.0, 0.7, 0.05])
def test_a_warm_start_takes_the_same_steps_of_a_shorter_way(start: float) -> None:
    steps = ddim_steps(4, start)
    assert [s.t for s in steps] == pytest.approx([start, 0.75 * start, 0.5 * start, 0.25 * start])
    ends = (0.5 * start, 0.25 * start, 0.0, 0.0)
    assert [(s.alpha_next, s.sigma_next) for s in steps] == [pytest.approx(_paper(t)) for t in ends]
