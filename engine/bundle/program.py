"""Runs a bundle's program: compiled segments with kernels between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from engine.bundle.bundle import KernelStage, ProgramSpec, SegmentStage, SplitStage, Stage

Segment = Callable[[Sequence[Any]], Sequence[Any]]


class Program:
    """One network (encoder or decoder) as a chain of stages over named arrays.

    Args:
        spec: the stages, from the bundle's manifest.
        compile_segment: turns a segment's graph file into something callable.
        kernels: the backend's kernels by name.
    """

    def __init__(
        self, spec: ProgramSpec, compile_segment: Callable[[SegmentStage], Segment], kernels: Mapping[str, Segment]
    ):
        self._inputs, self._outputs = spec.inputs, spec.outputs
        self._stages: list[tuple[Segment, tuple[str, ...], tuple[str, ...]]] = []
        for stage in spec.stages:
            self._stages.append((_runner(stage, compile_segment, kernels), stage.inputs, stage.outputs))

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run all stages; arrays come in and go out in the order of the spec."""
        arrays = dict(zip(self._inputs, inputs, strict=True))
        for run, names_in, names_out in self._stages:
            arrays.update(zip(names_out, run([arrays[name] for name in names_in]), strict=True))
        return tuple(arrays[name] for name in self._outputs)


def _runner(
    stage: Stage, compile_segment: Callable[[SegmentStage], Segment], kernels: Mapping[str, Segment]
) -> Segment:
    if isinstance(stage, KernelStage):
        return kernels[stage.kernel]
    if isinstance(stage, SplitStage):
        return _splitter(stage.sizes)
    return compile_segment(stage)


def _splitter(sizes: Sequence[int]) -> Segment:
    """Cuts an array along its last axis into views of the given sizes."""
    ends = list(accumulate(sizes))

    def split(arrays: Sequence[Any]) -> list[Any]:
        (array,) = arrays
        return [array[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]

    return split
