"""Whole counts, from a decoded picture to the result: every variant that runs here, and the model in other runtimes."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tolerances import CONFORMANCE

import engine
from engine.cli.timing import Timing, wall
from engine.cli.variants import ANY_TYPE, MISSING, REFERENCE, Agreement, Variant, all_variants, disagreement
from suite import same_model
from suite.groups import Group, MissingError, Way, WrongResultError
from suite.plan import Plan
from suite.results import Row, timed_row

_SAMPLE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"
_TORCH_TYPES = ("float32", "bfloat16")
COMPILED = tuple(f"torch.compile {x}" for x in _TORCH_TYPES)
EAGER_BATCH = tuple(f"torch {x}, one batch" for x in _TORCH_TYPES)


class Counters:
    """Counters by label, each made once and kept: loading a model is no part of counting.

    Args:
        devices: to look for variants on.
        threads: that the other runtimes compute with; ours take all processors by themselves.
    """

    def __init__(self, devices: Sequence[str], threads: int):
        self.variants = {str(variant): variant for variant in all_variants(devices)}
        self._makers: dict[str, Callable[[], engine.CrowdCounter]] = {
            **{label: variant.counter for label, variant in self.variants.items()},
            **same_model.others(threads),
            **{f"torch.compile {x}": functools.partial(same_model.compiled, x) for x in _TORCH_TYPES},
            **{f"torch {x}, one batch": functools.partial(same_model.eager_batch, x) for x in _TORCH_TYPES},
        }
        self._made: dict[str, engine.CrowdCounter | Exception] = {}

    @property
    def plain_labels(self) -> tuple[str, ...]:
        """All but those that only some groups take."""
        return tuple(label for label in self._makers if label not in (*COMPILED, *EAGER_BATCH))

    @property
    def engine_labels(self) -> tuple[str, ...]:
        """Our own variants: the other runtimes are not timed where each count takes seconds."""
        return tuple(self.variants)

    def __getitem__(self, label: str) -> engine.CrowdCounter:
        """The counter.

        Raises:
            MissingError: it does not run here.
        """
        if label not in self._made:
            try:
                self._made[label] = self._makers[label]()
            except MISSING as error:
                self._made[label] = error
        made = self._made[label]
        if isinstance(made, Exception):
            raise MissingError(str(made)) from made
        return made

    @functools.cached_property
    def default(self) -> Variant:
        """What CrowdCounter() runs on here."""
        with engine.CrowdCounter() as counter:
            backend = counter._open_backend()
            return Variant(backend.name, backend.compute_type, backend.device.split(":")[0])


@functools.cache
def shared_counters(plan: Plan) -> Counters:
    """The counters of a run."""
    return Counters(plan.devices, plan.threads)


@functools.lru_cache(maxsize=8)
def picture(width: int, height: int) -> np.ndarray:
    """The sample picture: uint8 [height, width, 3].

    It is scaled to at most 1024x768, and its mirror images fill the rest: larger, its heads would have sizes that no
    crowd's have.
    """
    scaled = min(width, 1024), min(height, 768)
    with Image.open(_SAMPLE) as image:
        pixels = np.asarray(image.convert("RGB").resize(scaled, Image.Resampling.BICUBIC))
    return np.pad(pixels, ((0, height - scaled[1]), (0, width - scaled[0]), (0, 0)), mode="symmetric")


def pictures(number: int, width: int, height: int) -> list[np.ndarray]:
    """Different pictures of one size: the sample, moved sideways."""
    return [np.roll(picture(width, height), 16 * i, axis=1) for i in range(number)]


def limits(label: str) -> Agreement:
    """What the conformance test allows the type that a label names."""
    words = re.findall(r"\w+", label)
    for dtype, tolerance in CONFORMANCE.items():
        # As a word: bfloat16 has float16 in it.
        if dtype in words:
            return Agreement(tolerance.count, tolerance.heatmap)
    return ANY_TYPE


def count_group(counters: Counters, labels: Sequence[str], width: int, height: int, steps: int) -> Group:
    """One picture at a time, in ``steps`` denoising steps; further rows have the time of each stage."""
    image = picture(width, height)
    expected = counters[str(REFERENCE)].count(image, steps=steps)
    timings: dict[str, list[dict[str, float]]] = {}

    def make(label: str) -> Way:
        counter, seen = counters[label], timings.setdefault(label, [])

        def call() -> engine.CountResult:
            return counter.count(image, steps=steps)

        def stint(times: int) -> float:
            found: list[dict[str, float]] = []
            milliseconds = wall(lambda: found.append(call().timings))(times)
            seen.append({name: sum(x[name] for x in found) / times for name in found[0]})
            return milliseconds

        return Way(call, stint, records=True)

    def stages(label: str, timing: Timing) -> list[Row]:
        seen = timings[label][-len(timing.samples) :]
        names = [name for name in seen[0] if name != "total"]
        return [
            timed_row("stage", f"{case}: {name}", label, Timing(tuple(x[name] + 1e-6 for x in seen)), **settings)
            for name in names
        ]

    case = f"{width}x{height}, {steps} steps"
    settings = {"width": width, "height": height, "steps": steps, "batch": 1}
    ways = {label: functools.partial(make, label) for label in labels}
    return Group("count", case, ways, _checker([expected]), {**settings, "count": expected.count}, more_rows=stages)


def batch_group(
    counters: Counters, labels: Sequence[str], batch: int, width: int, height: int, steps: int, name: str = "batch"
) -> Group:
    """Several pictures in one call; the time is of all of them."""
    images = pictures(batch, width, height)
    expected = [counters[str(REFERENCE)].count(image, steps=steps) for image in images]

    def make(label: str) -> Way:
        counter = counters[label]
        return Way(lambda: counter.count_batch(images, steps=steps))

    settings = {"width": width, "height": height, "steps": steps, "batch": batch}
    ways = {label: functools.partial(make, label) for label in labels}
    return Group(name, f"{batch} of {width}x{height}, {steps} steps", ways, _checker(expected), settings)


def _checker(expected: Sequence[engine.CountResult]) -> Callable[[str, Any], None]:
    def check(label: str, output: Any) -> None:
        results = output if isinstance(output, list) else [output]
        if len(results) != len(expected):
            raise WrongResultError(f"{label} gives {len(results)} results for {len(expected)} pictures; not timed")
        for result, reference in zip(results, expected, strict=True):
            wrong = disagreement(result, reference, limits(label))
            if wrong:
                raise WrongResultError(f"{label} is wrong: {wrong}; it is not timed")

    return check
