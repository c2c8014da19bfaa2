"""The compiled parts of a count on the CPU, each as a share of what the machine computes at most in its type."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np

import engine
from engine.bundle.bundle import SegmentStage
from engine.cli.timing import Timing, wall
from engine.cli.variants import REFERENCE, Variant, disagreement
from suite.counts import limits, picture, shared_counters
from suite.groups import Case, Group, Way, WrongResultError
from suite.plan import Plan
from suite.results import Row, timed_row
from suite.same_model import default_steps

Shapes = tuple[tuple[int, ...], ...]


def segment_cases(plan: Plan) -> list[Case]:
    """A count with models for its size; further rows have the time of each segment."""
    size = (160, 128) if plan.quick else (1024, 768)
    variants = {f"openvino {x}": Variant("openvino", x, "cpu", "latency") for x in ("float32", "bfloat16", "int8")}
    make = functools.partial(_segment_group, plan, variants, size)
    return [Case(f"segments {size[0]}x{size[1]}", make, tuple(variants), plan.budget(4.0))]


def _segment_group(plan: Plan, variants: dict[str, Variant], size: tuple[int, int]) -> Group:
    counters, image, steps = shared_counters(plan), picture(*size), default_steps()
    expected = counters[str(REFERENCE)].count(image, steps=steps)
    seen: dict[str, list[Record]] = {}

    def make(label: str) -> Way:
        counter, records = counters[str(variants[label])], seen.setdefault(label, [])

        def call() -> engine.CountResult:
            return counter.count(image, steps=steps)

        def stint(times: int) -> float:
            records.append(Record(times))
            with records[-1].watching():
                return wall(call)(times)

        return Way(call, stint, records=True)

    def check(label: str, output: Any) -> None:
        wrong = disagreement(output, expected, limits(label))
        if wrong:
            raise WrongResultError(f"{label} is wrong: {wrong}; it is not timed")

    def rows(label: str, timing: Timing) -> list[Row]:
        records = seen[label][-len(timing.samples) :]
        last = records[-1]
        models = counters[str(variants[label])]._open_backend()._models  # type: ignore[attr-defined]
        return [
            _row(
                case,
                f"{label}: {graph}",
                [x.mean(graph) for x in records],
                last.runs(graph),
                multiply_adds(models, *key),
            )
            for graph, key in last.segments.items()
        ]

    case = f"{size[0]}x{size[1]}, {steps} steps"
    ways = {label: functools.partial(make, label) for label in variants}
    return Group("segments", case, ways, check, {"width": size[0], "height": size[1], "steps": steps}, more_rows=rows)


class Record:
    """What ran during some counts of one picture.

    Attributes:
        segments: by name, the stage and the shapes of its inputs.
    """

    def __init__(self, counts: int = 1) -> None:
        self._counts = counts
        self._milliseconds: dict[str, list[float]] = {}
        self.segments: dict[str, tuple[SegmentStage, Shapes]] = {}

    def mean(self, name: str) -> float:
        """Milliseconds in a segment during one count, all of its runs together."""
        return sum(self._milliseconds[name]) / self._counts

    def runs(self, name: str) -> int:
        """How often one count runs a segment."""
        return len(self._milliseconds[name]) // self._counts

    def watching(self) -> Any:
        """A context in which segments report to this record."""
        from engine.backends.openvino.worker import StaticSegment

        run: Callable[..., list[np.ndarray]] = StaticSegment.__call__

        def watched(segment: StaticSegment, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            start = time.perf_counter()
            outputs = run(segment, arrays)
            self._add(segment._stage, tuple(x.shape for x in arrays), 1e3 * (time.perf_counter() - start))
            return outputs

        return mock.patch.object(StaticSegment, "__call__", watched)

    def _add(self, stage: SegmentStage, shapes: Shapes, milliseconds: float) -> None:
        name = stage.graph.removesuffix(".onnx")
        self.segments[name] = stage, shapes
        self._milliseconds.setdefault(name, []).append(milliseconds)


def multiply_adds(models: Any, stage: SegmentStage, shapes: Shapes) -> int:
    """Those of the convolutions and matrix products of a segment, for inputs of these shapes.

    Args:
        models: of the OpenVINO backend: :class:`engine.backends.openvino.models.SegmentModels`.
    """
    total = 0
    for node in models.read_for_size(stage, shapes).get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            output = node.get_output_shape(0)
            # [O, I, h, w], [groups, O / groups, I, h, w], or [O, I] or [I, O]
            weights = node.input_value(1).get_shape()
            channels = output[1] if len(weights) > 3 else output[-1]
            total += math.prod(output) * math.prod(weights) // channels
    return total


def _row(case: str, way: str, milliseconds: Sequence[float], runs: int, multiplied: int) -> Row:
    timing = Timing(tuple(milliseconds))
    return timed_row("segment", case, way, timing, gflops=2 * runs * multiplied / timing.percentile(50) / 1e6)
