"""The warm start: which latent it starts from, when it does not, and what it does to counts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import engine
from engine import _core
from engine.backends.base import Backend
from engine.backends.openvino.worker import Worker
from engine.config import COMPONENTS, CountingRule, ModelConfig
from engine.counting import stitching
from engine.counting.heads import choose_rule
from engine.counting.stitching import CountJob, CountPlan
from engine.diffusion.head_map import head_map
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Start, alpha_sigma, initial_noise
from engine.errors import BackendError
from engine.image.tiles import HostPicture, plan_tiles
from engine.stream.warm_start import NOISE_LEVEL, WarmStart, plan_warm_start
from engine.system.stopwatch import Stopwatch

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def counter():
    with engine.CrowdCounter(device="cpu") as counter:
        yield counter


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return np.asarray(Image.open(PICTURE).convert("RGB"))[80:208, 40:232]


def warm_start(counter: engine.CrowdCounter) -> WarmStart:
    rule_of = partial(choose_rule, counter._bundle.counting)
    return WarmStart(counter._plan(None, None), counter._open_backend(), rule_of)


def test_the_first_frame_is_counted_as_ever_and_the_others_warm_in_one_step(counter, street) -> None:
    frames = list(counter.stream([street] * 4, warm_start=True))
    cold = counter.count(street)
    assert [f.warm for f in frames] == [False, True, True, True]
    assert np.array_equal(frames[0].result.heatmap, cold.heatmap)
    assert np.array_equal(frames[0].result.points, cold.points)
    for frame in frames[1:]:
        assert not np.array_equal(frame.result.heatmap, cold.heatmap)
        assert abs(frame.result.count - cold.count) <= max(2, 0.2 * cold.count)
        assert frame.result.interval[0] <= frame.result.count <= frame.result.interval[1]
    assert not any(f.warm for f in counter.stream([street] * 3, warm_start=False))


def test_streams_repeat_bit_by_bit_and_do_not_share_a_start(counter, street) -> None:
    first, second = counter.stream([street] * 3, warm_start=True), counter.stream([street] * 3, warm_start=True)
    for a, b in zip(first, second, strict=True):
        assert a.warm == b.warm
        assert np.array_equal(a.result.heatmap, b.result.heatmap)


def test_the_denoising_starts_from_the_heads_before_noised_to_t(counter, street, monkeypatch) -> None:
    """The decoder is watched: it is called once, at t, with alpha * (heads drawn as in training) + sigma * noise."""
    decode, calls = Worker.decode, []

    def watched(worker: Worker, features: Any, x_t: np.ndarray, t: float) -> Any:
        calls.append((x_t.copy(), t))
        return decode(worker, features, x_t, t)

    monkeypatch.setattr(Worker, "decode", watched)
    stream = counter.stream([street] * 2, warm_start=True)
    before = next(stream).result
    calls.clear()
    assert next(stream).warm
    ((x_t, t),) = calls
    model = counter._bundle.model
    assert t == NOISE_LEVEL
    heads = head_map(before.points, 64, 96, 2)
    # Depth first, then rows and columns: cell (y, x) is channel 4 * (y % 4) + x % 4 of block (y // 4, x // 4).
    x_0 = np.zeros((1, 16, 16, 24))
    for y in range(64):
        for x in range(96):
            x_0[0, 4 * (y % 4) + x % 4, y // 4, x // 4] = (2 * heads[y, x] - 1) * model.map_scale
    alpha, sigma = alpha_sigma(t)
    noises = [initial_noise(seed, x_0.shape, 0) for seed in range(5)]
    distances = [np.abs(x_t - (alpha * x_0 + sigma * noise)).max() for noise in noises]
    assert min(distances) < 1e-5
    # Not with the noise of a cold start, whose marks the map has already.
    assert int(np.argmin(distances)) == 1


def test_a_new_scene_starts_cold(counter, street) -> None:
    noise = np.random.default_rng(0).integers(0, 256, street.shape, np.uint8)
    pictures = [street, street, street[:, ::-1], street[:, ::-1], noise, street, street[:96], street[:96]]
    frames = list(counter.stream(pictures, warm_start=True))
    assert [f.warm for f in frames] == [False, True, False, True, False, False, False, True]
    for index in (2, 4, 5, 6):
        assert np.array_equal(frames[index].result.heatmap, counter.count(pictures[index]).heatmap)


def plan_and_expect(warm: WarmStart, image: np.ndarray, expected: float) -> tuple[bool, float]:
    """One frame in which the encoder expects so many: whether it started warm, and what the rule is told."""
    plan = warm.plan(image)
    told = plan.expect(expected)
    height, width = image.shape[:2]
    result: Any = SimpleNamespace(
        image_size=(width, height), points=np.zeros((0, 2), np.float32), heatmap=np.zeros((height // 2, width // 2))
    )
    warm.learn(result)
    return plan.start is not None, told


def test_the_expected_count_follows_smoothly_and_jumps_with_the_encoder(counter, street) -> None:
    warm = warm_start(counter)
    # Half of the difference is followed. 4 standard deviations of a Poisson count of about 100 are about 40.
    steps = [(100, False, 100), (110, True, 105), (107, True, 106), (100, True, 103), (160, True, 160)]
    for expected, is_warm, told in steps:
        assert plan_and_expect(warm, street, expected) == (is_warm, told)
    # After the jump, one cold frame, from which it goes on.
    assert plan_and_expect(warm, street, 150) == (False, 150)
    assert plan_and_expect(warm, street, 160) == (True, 155)


def test_a_new_scene_has_no_past(counter, street) -> None:
    warm = warm_start(counter)
    assert plan_and_expect(warm, street, 100) == (False, 100)
    assert plan_and_expect(warm, street[::-1], 90) == (False, 90)


def test_a_noisy_expectation_makes_the_count_jump_less(counter, street) -> None:
    warm, noisy = warm_start(counter), np.random.default_rng(0).normal(100, 5, 200)
    told = [plan_and_expect(warm, street, expected)[1] for expected in noisy]
    assert np.abs(np.diff(told)).mean() < 0.6 * np.abs(np.diff(noisy)).mean()
    assert np.mean(told) == pytest.approx(np.mean(noisy), abs=1)


def test_large_pictures_start_warm_in_all_their_tiles(counter, street, monkeypatch) -> None:
    small_tiles = partial(plan_tiles, max_pixels=64 * 64, side=128, halo=32)
    monkeypatch.setattr("engine.counting.stitching.plan_tiles", small_tiles)
    cold, warm = counter.stream([street] * 2, warm_start=True)
    assert warm.warm
    assert abs(warm.result.count - cold.result.count) <= max(2, 0.2 * cold.result.count)
    # Each tile was given its own part of the heads: with t near 0 the map is the heads, wherever they are.
    backend, requests = counter._open_backend(), []
    infer = type(backend).infer

    def watched(self: Backend, image: Any, request: Any, clock: Any) -> Any:
        requests.append((image.shape, request.start))
        return infer(self, image, request, clock)

    monkeypatch.setattr(type(backend), "infer", watched)
    before, _ = counter.stream([street] * 2, warm_start=True)
    heads = head_map(before.result.points, 64, 96, 2)
    tiles = small_tiles(*street.shape[:2])
    assert len(tiles) > 1
    for tile, (shape, start) in zip(tiles, requests[len(tiles) :], strict=True):
        assert isinstance(start, Start)
        part = heads[tile.top // 2 : tile.bottom // 2, tile.left // 2 : tile.right // 2]
        assert shape[:2] == (tile.bottom - tile.top, tile.right - tile.left)
        assert np.array_equal(start.heatmap, part)


def test_several_samples_start_from_noises_of_their_own(counter, street) -> None:
    *_, warm = counter.stream([street] * 2, warm_start=True, samples=2)
    assert warm.warm
    assert warm.result.uncertainty.any()


def test_one_warm_step_claims_no_more_than_one_cold_one() -> None:
    """Neither has a spread: both intervals hold all that may be heads, of these at least one and at most three."""
    heatmap, rate = np.zeros((32, 32), np.float32), np.zeros((8, 8), np.float32)
    heatmap[[4, 12, 20], 16] = 0.9, 0.4, 0.3
    rate[0, 0] = 2
    cold = CountPlan(ModelConfig(), CountingRule(low=0.2, high=0.6), steps=1, samples=1, seed=0)
    for plan in (cold, replace(cold, start=Start(heatmap, 0.8))):
        job = CountJob(HostPicture(np.zeros((64, 64, 3), np.uint8)), plan, Stopwatch())
        assert job.stitch(TileMaps(heatmap, np.zeros_like(heatmap), rate, np.zeros(COMPONENTS, np.float32)))
        _, counted = job.count(_core.find_peaks)
        assert (len(counted.points), counted.interval) == (2, (1, 3))


def test_a_warm_frame_has_no_spread_to_be_sure_by(counter, street, monkeypatch) -> None:
    told, count_heads = [], stitching.count_heads
    monkeypatch.setattr(
        stitching, "count_heads", lambda maps, *rest: (told.append(maps.has_spread), count_heads(maps, *rest))[1]
    )
    _, warm = counter.stream([street] * 2, warm_start=True)
    assert warm.warm
    assert not warm.result.uncertainty.any()
    assert told == [counter._bundle.default_steps > 1, False]


def test_a_backend_that_starts_cold_says_so(counter) -> None:
    backend: Any = SimpleNamespace(starts_warm=False, name="tensorrt", device="cuda:0")
    plan, rule_of = counter._plan(None, None), partial(choose_rule, counter._bundle.counting)
    with pytest.raises(BackendError, match="backend 'tensorrt' on cuda:0 starts cold"):
        plan_warm_start(True, plan, backend, rule_of)
    assert plan_warm_start(None, plan, backend, rule_of) is plan_warm_start(False, plan, backend, rule_of) is None
