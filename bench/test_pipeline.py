"""Whole counts and their stages, on everything that runs here; cold start, memory and disk."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from suite.counts import COMPILED, EAGER_BATCH, batch_group, count_group, shared_counters
from suite.footprint import process_cases
from suite.groups import Case
from suite.plan import Plan
from suite.same_model import default_steps
from suite.segments import segment_cases

_SIZES = {(640, 480): 6.0, (1024, 768): 24.0, (1920, 1080): 10.0, (3840, 2160): 10.0}
_STEPS = (1, 2, 5, 10)
_BATCHES = {1: 3.0, 4: 5.0, 32: 5.0}
# Pixels a call from which on our own variants alone are timed.
_MANY_PIXELS = 4_000_000
# Seconds a call from which on a way is left out, and named with its time: of few pixels, and of many.
_SLOWEST = 2.0, 6.0


def size_cases(plan: Plan) -> list[Case]:
    """The model's own number of steps; ``torch.compile`` compiles for each size anew, so it has one."""
    sizes = {(160, 128): 1.0} if plan.quick else _SIZES
    return [
        _count_case(plan, size, default_steps(), seconds, () if plan.quick or size != (1024, 768) else COMPILED)
        for size, seconds in sizes.items()
    ]


def step_cases(plan: Plan) -> list[Case]:
    """Other numbers of steps, with the usual use of the cores."""
    if plan.quick:
        return [_count_case(plan, (160, 128), 1, 1.0)]
    left_out = ("latency", "throughput")
    return [_count_case(plan, (1024, 768), steps, 5.0, (), left_out) for steps in _STEPS if steps != default_steps()]


def _count_case(
    plan: Plan,
    size: tuple[int, int],
    steps: int,
    seconds: float,
    more: tuple[str, ...] = (),
    left_out: tuple[str, ...] = ("throughput",),
) -> Case:
    labels = (*_labels(plan, size, 1, left_out), *more)
    make = functools.partial(count_group, shared_counters(plan), labels, *size, steps)
    budget = plan.budget(seconds, least=2 if _is_large(size, 1) else 3, slowest=_slowest(size, 1))
    return Case(f"count {size[0]}x{size[1]}, {steps} steps", make, labels, budget)


def batch_cases(plan: Plan) -> list[Case]:
    """Several pictures a call."""
    size, batches = ((96, 64), {2: 1.0}) if plan.quick else ((640, 480), _BATCHES)
    cases = []
    for batch, seconds in batches.items():
        labels = (*_labels(plan, size, batch, ()), *EAGER_BATCH)
        make = functools.partial(batch_group, shared_counters(plan), labels, batch, *size, default_steps())
        budget = plan.budget(seconds, least=2, slowest=_slowest(size, batch))
        cases.append(Case(f"batch of {batch}", make, labels, budget))
    return cases


def _labels(plan: Plan, size: tuple[int, int], batch: int, left_out: tuple[str, ...]) -> tuple[str, ...]:
    """What runs here, without the uses of the cores that do not matter for the case."""
    counters = shared_counters(plan)
    labels = counters.engine_labels if _is_large(size, batch) else counters.plain_labels
    return tuple(label for label in labels if not label.endswith(left_out))


def _slowest(size: tuple[int, int], batch: int) -> float:
    return _SLOWEST[_is_large(size, batch)]


def _is_large(size: tuple[int, int], batch: int) -> bool:
    return size[0] * size[1] * batch > _MANY_PIXELS


@pytest.mark.groups(cases=size_cases)
def test_sizes(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=step_cases)
def test_steps(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=batch_cases)
def test_batches(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=segment_cases)
def test_segments(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=process_cases)
def test_processes(timed: Callable[[], None]) -> None:
    timed()
