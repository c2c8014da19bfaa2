"""Runs a bundle's program: compiled segments with kernels between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from engine.bundle.array_check import check_attention, check_ends, check_segment, check_split
from engine.bundle.stages import KernelStage, ProgramSpec, SegmentStage, SplitStage, Stage

Segment = Callable[[Sequence[Any]], Sequence[Any]]


class Program:
    """One network (encoder or decoder) as a chain of stages over named arrays.

    What passes from stage to stage is checked each time (:mod:`engine.bundle.array_check`).

    Args:
        spec: the stages, from the bundle's manifest.
        compile_segment: turns a segment's graph file into something callable.
        kernels: the backend's kernels by name.
    """

    def __init__(
        self, spec: ProgramSpec, compile_segment: Callable[[SegmentStage], Segment], kernels: Mapping[str, Segment]
    ):
        self._inputs, self._outputs = spec.inputs, spec.outputs
        self._stages = [(stage, stage.inputs, _runner(stage, compile_segment, kernels)) for stage in spec.stages]

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Run all stages; arrays come in and go out in the order of the spec.

        Raises:
            BundleError: a stage made something that does not fit the others.
        """
        arrays = dict(zip(self._inputs, inputs, strict=True))
        for stage, names, run in self._stages:
            given = [arrays[name] for name in names]
            if isinstance(stage, KernelStage):
                check_attention(stage, given)
            made = run(given)
            if isinstance(stage, SegmentStage):
                check_segment(stage, made)
            arrays.update(zip(stage.outputs, made, strict=True))
        outputs = tuple(arrays[name] for name in self._outputs)
        check_ends(inputs, outputs)
        return outputs


def _runner(
    stage: Stage, compile_segment: Callable[[SegmentStage], Segment], kernels: Mapping[str, Segment]
) -> Segment:
    if isinstance(stage, KernelStage):
        return kernels[stage.kernel]
    if isinstance(stage, SplitStage):
        return _splitter(stage)
    return compile_segment(stage)


def _splitter(stage: SplitStage) -> Segment:
    """Cuts an array along its last axis into views of the stage's sizes."""
    ends = list(accumulate(stage.sizes))

    def split(arrays: Sequence[Any]) -> list[Any]:
        (array,) = arrays
        check_split(stage, array)
        return [array[..., end - size : end] for size, end in zip(stage.sizes, ends, strict=True)]

    return split
