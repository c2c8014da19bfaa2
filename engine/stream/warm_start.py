"""Starting a frame's denoising from the heads of the frame before."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.backends.base import Backend
from engine.config import CountingRule
from engine.counting.stitching import CountPlan
from engine.diffusion.head_map import head_map
from engine.diffusion.sampler import Start
from engine.errors import BackendError, ConfigError
from engine.result import CountResult
from engine.stream.scene import SAME_SCENE, similarity, thumbnail

# Whether streams start warm where the caller leaves it open and the backend can. Measured by bench/warm_start.py of
# commit 8d69701: it saves about a quarter of the time and steadies the count, but points in thin crowds are less exact
# than after the model's own steps.
WARM_START = False
# How one is made was measured there, too. Noise level from which one step is taken; 1 would be a cold start.
NOISE_LEVEL = 0.8
# Number of steps whose counting rule fits the map so made.
_RULE_STEPS = 3
# Share of the difference by which the expected count follows the encoder's, from frame to frame.
_GAIN = 0.5
# Standard deviations, as of a Poisson count, that make a difference a new scene.
_JUMP = 4.0
# Noises that take turns: one alone would leave its marks in the map, frame after frame.
_NOISES = 4


class WarmStart:
    """Plans the count of each frame of one stream.

    The heads found in the frame before are drawn as the map that the network learned, noised and denoised in one step,
    which leaves no uncertainty unless there are several samples. The frame's own map would not do: whatever it has
    between a head and nothing grows from frame to frame.

    Args:
        plan: of a cold start.
        rule_of: the counting rule of a number of steps.

    Raises:
        BackendError: the backend starts from noise alone.
    """

    def __init__(self, plan: CountPlan, backend: Backend, rule_of: Callable[[int], CountingRule]):
        if not backend.starts_warm:
            raise BackendError(f"backend {backend.name!r} on {backend.device} starts cold; use warm_start=False")
        self._rule = rule_of(_RULE_STEPS)
        self._cold = replace(plan, expect=self._expect)
        self._before: CountResult | None = None
        self._view: np.ndarray | None = None
        self._expected: float | None = None
        self._turn, self._has_jumped = 0, False

    def plan(self, image: np.ndarray) -> CountPlan:
        """How to count the next frame, uint8 [H, W, 3]; ``start`` is None where the scene is new."""
        before, last_view, self._view = self._before, self._view, thumbnail(image)
        if before is None or last_view is None or not _same_scene(before, image, last_view, self._view):
            self._expected, self._turn = None, 0
            return self._cold
        self._turn += 1
        height, width = before.heatmap.shape
        heads = head_map(before.points, height, width, self._cold.model.map_stride)
        return replace(
            self._cold,
            steps=1,
            seed=self._cold.seed + self._turn % _NOISES,
            start=Start(heads, NOISE_LEVEL),
            rule=self._rule,
        )

    def learn(self, result: CountResult) -> None:
        """Remember what was found in the frame that was planned last."""
        self._before = None if self._has_jumped else result

    def _expect(self, expected: float) -> float:
        """The expected count, smoothed over the frames of a scene; where the encoder's jumps, that is the count."""
        last = self._expected
        # The heads of a frame that was started from another scene's are no guide to those of the next.
        self._has_jumped = last is not None and _differ(last, expected)
        if last is None or self._has_jumped:
            self._expected = expected
        else:
            self._expected = last + _GAIN * (expected - last)
        return self._expected


def plan_warm_start(
    wanted: bool | None, plan: CountPlan, backend: Backend, rule_of: Callable[[int], CountingRule]
) -> WarmStart | None:
    """The warm start that is wanted, or for None the default's; ``plan`` is that of a cold start.

    Raises:
        ConfigError: ``wanted`` is none of True, False and None.
        BackendError: the backend starts from noise alone.
    """
    if wanted not in (None, True, False):
        raise ConfigError(f"warm_start must be True, False or None, got {wanted!r}")
    if wanted is None:
        wanted = WARM_START and backend.starts_warm
    return WarmStart(plan, backend, rule_of) if wanted else None


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _JUMP * math.sqrt(max(one, other, 1.0))


def _same_scene(before: CountResult, image: np.ndarray, last_view: np.ndarray, view: np.ndarray) -> bool:
    return before.image_size == (image.shape[1], image.shape[0]) and similarity(last_view, view) >= SAME_SCENE
