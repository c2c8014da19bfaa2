"""The time of a count against one thing at a time, on what CrowdCounter() runs on by itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine import _core
from engine.cli.timing import Timing
from engine.cli.variants import REFERENCE, disagreement
from engine.config import CountingRule
from engine.counting.heads import HeadMaps, count_heads, density_map
from engine.kernels import reference
from suite.counts import limits, pictures, shared_counters
from suite.groups import Case, Group, Way, WrongResultError
from suite.peaks import crowd_map
from suite.plan import Plan
from suite.same_model import default_steps

_WIDTHS = (576, 800, 1280, 1920, 2560, 4608)  # of 4:3 pictures: a quarter of a megapixel to 16
_STEPS = (1, 2, 3, 5, 10, 20)
_BATCHES = (1, 2, 4, 8, 16)
_PEOPLE = (10, 30, 100, 300, 1000, 3000)
# Peaks of at least this height count.
_RULE = CountingRule(low=0.3, high=0.3)
_SIZE = (640, 480)


def scaling_cases(plan: Plan) -> list[Case]:
    """One case for each thing that is varied; its ways are the values."""
    size = (64, 48) if plan.quick else _SIZE
    widths = (64, 96) if plan.quick else _WIDTHS
    threads = tuple(sorted({1, *(2**i for i in range(1, 12) if 2**i < plan.threads), plan.threads}))
    varied: dict[str, tuple[Sequence[int], Callable[[int], dict[str, int]]]] = {
        "pixels": (widths, lambda w: {"width": w, "height": w * 3 // 4}),
        "steps": ((1, 2) if plan.quick else _STEPS, lambda n: {"steps": n}),
        "batch": ((1, 2) if plan.quick else _BATCHES, lambda n: {"batch": n}),
        "threads": (threads, lambda n: {"threads": n}),
    }
    cases = []
    for name, (values, change) in varied.items():
        labels = tuple(str(value) for value in values)
        base = {"width": size[0], "height": size[1], "steps": default_steps(), "batch": 1, "threads": plan.threads}
        settings = {str(value): {**base, **change(value)} for value in values}
        make = functools.partial(_counting_group, plan, name, settings)
        cases.append(Case(f"time against {name}", make, labels, plan.budget(5.0, least=3)))
    people = (5, 10) if plan.quick else _PEOPLE
    make = functools.partial(_people_group, people, size)
    cases.append(Case("time against people", make, tuple(map(str, people)), plan.budget(3.0)))
    return cases


def _counting_group(plan: Plan, name: str, settings: Mapping[str, Mapping[str, int]]) -> Group:
    counters = shared_counters(plan)
    variant = counters.default
    expected: dict[str, Any] = {}

    def make(label: str) -> Way:
        chosen = settings[label]
        images = pictures(chosen["batch"], chosen["width"], chosen["height"])
        expected[label] = [counters[str(REFERENCE)].count(image, steps=chosen["steps"]) for image in images]
        if chosen["threads"] == plan.threads:
            counter, close = counters[str(variant)], lambda: None
        else:
            counter = variant.counter(cpu_threads=chosen["threads"])
            close = counter.close
        return Way(lambda: counter.count_batch(images, steps=chosen["steps"]), close=close)

    def check(label: str, results: Sequence[Any]) -> None:
        for result, wanted in zip(results, expected[label], strict=True):
            wrong = disagreement(result, wanted, limits(str(variant)))
            if wrong:
                raise WrongResultError(f"{variant} is wrong: {wrong}; it is not timed")

    return _group(name, str(variant), settings, make, check)


def _people_group(people: Sequence[int], size: tuple[int, int]) -> Group:
    """What comes after the network, on heat maps with so many heads: peaks, count and density."""
    width, height = size[0] // 2, size[1] // 2
    settings = {str(n): {"width": size[0], "height": size[1], "people": n} for n in people}
    maps = {str(n): crowd_map(height, width, n) for n in people}

    def make(label: str) -> Way:
        rate = np.zeros((-(-height // 4), -(-width // 4)), np.float32)
        heads = HeadMaps(maps[label], maps[label] * 0, rate, 4, float(label), has_spread=True)

        def call() -> Any:
            counted = count_heads(heads, _RULE, _core.find_peaks)
            return counted.points, density_map(counted.points, height, width)

        return Way(call)

    def check(label: str, output: Any) -> None:
        points, density = output
        wanted = len(reference.find_peaks(maps[label], _RULE.low)[1])
        if len(points) != wanted or abs(float(density.sum()) - wanted) > 1e-3 * max(wanted, 1):
            raise WrongResultError(f"{len(points)} people with a density of {density.sum():g}, the oracle has {wanted}")

    return _group("people", "after the network", settings, make, check)


def _group(
    name: str,
    case: str,
    settings: Mapping[str, Mapping[str, int]],
    make: Callable[[str], Way],
    check: Callable[[str, Any], None],
) -> Group:
    def figures(label: str, timing: Timing) -> Mapping[str, Any]:
        return settings[label]

    ways = {label: functools.partial(make, label) for label in settings}
    return Group(f"time against {name}", case, ways, check, figures=figures)
