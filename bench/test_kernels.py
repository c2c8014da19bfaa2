"""Each kernel against what a user would otherwise write, as shares of what the machine could do at most."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from suite import attention, ddim, peaks
from suite.attention import AttentionShape, attention_group
from suite.ddim import ddim_group
from suite.groups import Case
from suite.peaks import peaks_group
from suite.plan import Plan

from engine.bundle.bundle import load_bundle

# Padded pictures, (width, height).
_PICTURES = ((640, 480), (1024, 768), (1920, 1088))
_QUICK = ((128, 96),)


def _pictures(plan: Plan) -> tuple[tuple[int, int], ...]:
    return _QUICK if plan.quick else _PICTURES


def _labels(labels: tuple[str, ...], plan: Plan) -> tuple[str, ...]:
    return tuple(label for label in labels if "cuda" in plan.devices or not label.endswith("on cuda"))


def attention_cases(plan: Plan) -> list[Case]:
    """The encoder's attention at stride 16 and the decoder's at stride 8."""
    model = load_bundle("default").model
    cases = []
    for width, height in _pictures(plan):
        for stride, channels in ((16, model.widths[3]), (8, model.decoder_width)):
            shape = AttentionShape(1, height // stride, width // stride, model.attention_dim, channels)
            name = f"attention {shape.height}x{shape.width}"
            make = functools.partial(attention_group, shape)
            cases.append(Case(name, make, _labels(attention.LABELS, plan), plan.budget(4)))
    return cases


def ddim_cases(plan: Plan) -> list[Case]:
    """The decoder's latent."""
    channels = load_bundle("default").model.latent_channels
    shapes = [(1, channels, height // 8, width // 8) for width, height in _pictures(plan)]
    return [
        Case(f"DDIM {h}x{w}", functools.partial(ddim_group, shape), _labels(ddim.LABELS, plan), plan.budget(2))
        for shape in shapes
        for *_, h, w in [shape]
    ]


def peak_cases(plan: Plan) -> list[Case]:
    """Heat maps at stride 2, of few people and of many."""
    cases = []
    for width, height in _pictures(plan):
        for people in (20, 2000):
            make = functools.partial(peaks_group, height // 2, width // 2, people)
            name = f"peaks {height // 2}x{width // 2}, {people} people"
            cases.append(Case(name, make, _labels(peaks.LABELS, plan), plan.budget(1.5)))
    return cases


@pytest.mark.groups(cases=attention_cases)
def test_criss_cross_attention(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=ddim_cases)
def test_ddim_update(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=peak_cases)
def test_find_peaks(timed: Callable[[], None]) -> None:
    timed()
