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

_SIZES = {(640, 480): 6.0, (1024, 768): 12.0, (1920, 1080): 10.0, (3840, 2160): 10.0}
_STEPS = (1, 2, 5, 10)
_BATCHES = {1: 3.0, 4: 6.0, 16: 6.0, 32: 6.0}
# Seconds a call from which on a way is left out, and named with its time.
_SLOWEST = 4.0
# Pixels a call from which on our own variants alone are timed.
_MANY_PIXELS = 4_000_000


def size_cases(plan: Plan) -> list[Case]:
    """The model's own number of steps; ``torch.compile`` compiles for each size anew, so it has one."""
    sizes = {(160, 128): 1.0} if plan.quick else _SIZES
    return [
        _count_case(plan, size, default_steps(), seconds, () if plan.quick or size != (1024, 768) else COMPILED)
        for size, seconds in sizes.items()
    ]


def step_cases(plan: Plan) -> list[Case]:
    """Other numbers of steps."""
    if plan.quick:
        return [_count_case(plan, (160, 128), 1, 1.0)]
    return [_count_case(plan, (1024, 768), steps, 5.0) for steps in _STEPS if steps != default_steps()]


def _count_case(plan: Plan, size: tuple[int, int], steps: int, seconds: float, more: tuple[str, ...] = ()) -> Case:
    labels = (*_labels(plan, size, 1), *more)
    make = functools.partial(count_group, shared_counters(plan), labels, *size, steps)
    budget = plan.budget(seconds, least=3, slowest=_SLOWEST)
    return Case(f"count {size[0]}x{size[1]}, {steps} steps", make, labels, budget)


def batch_cases(plan: Plan) -> list[Case]:
    """Several pictures a call."""
    size, batches = ((96, 64), {2: 1.0}) if plan.quick else ((640, 480), _BATCHES)
    cases = []
    for batch, seconds in batches.items():
        labels = (*_labels(plan, size, batch), *EAGER_BATCH)
        make = functools.partial(batch_group, shared_counters(plan), labels, batch, *size, default_steps())
        cases.append(Case(f"batch of {batch}", make, labels, plan.budget(seconds, least=2, slowest=_SLOWEST)))
    return cases


def _labels(plan: Plan, size: tuple[int, int], batch: int) -> tuple[str, ...]:
    counters = shared_counters(plan)
    many = size[0] * size[1] * batch > _MANY_PIXELS
    return counters.engine_labels if many else counters.plain_labels


@pytest.mark.groups(cases=size_cases)
def test_sizes(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=step_cases)
def test_steps(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=batch_cases)
def test_batches(timed: Callable[[], None]) -> None:
    timed()


@pytest.mark.groups(cases=process_cases)
def test_processes(timed: Callable[[], None]) -> None:
    timed()
