"""The stages of a bundle's programs: what a manifest says of them, checked, and what a backend runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.bundle.manifest import as_names, as_text, as_whole

# Inputs and outputs of each program, as backends call it.
PROGRAMS = {
    "encoder": (("image",), ("features", "rate", "signature")),
    "decoder": (("features", "x_t", "t"), ("x_0",)),
}
# How many inputs and outputs each kernel has.
KERNELS = {"criss_cross_attention": (3, 1)}
_MOST_STAGES = 256


@dataclass(frozen=True)
class SegmentStage:
    """Run the graph in file ``graph``: named tensors in, named tensors out.

    ``typed`` names files of the same segment in other types, by type: for runtimes that take types from the graph.
    """

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    typed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitStage:
    """Views of ``input``, cut along its last axis into ``sizes``; nothing is copied."""

    input: str
    sizes: tuple[int, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The one input, as the other stages name theirs."""
        return (self.input,)


@dataclass(frozen=True)
class KernelStage:
    """Run the kernel called ``kernel``; inputs in the order of its arguments."""

    kernel: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Stage = SegmentStage | SplitStage | KernelStage


@dataclass(frozen=True)
class ProgramSpec:
    """One half of the network: as one ``graph`` for other runtimes, and as ``stages`` for ours."""

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stages: tuple[Stage, ...]


def as_program(name: str, entry: dict[str, Any]) -> ProgramSpec:
    """A program as a manifest has it.

    Raises:
        ValueError: it lacks something, uses a kernel that this engine does not have, or a tensor before it is made.
    """
    if not isinstance(entry["stages"], list) or len(entry["stages"]) > _MOST_STAGES:
        raise ValueError(f"program {name} has no list of at most {_MOST_STAGES} stages")
    stages = tuple(_stage(stage) for stage in entry["stages"])
    program = ProgramSpec(as_text(entry["graph"]), as_names(entry["inputs"]), as_names(entry["outputs"]), stages)
    if program.inputs != PROGRAMS[name][0]:
        raise ValueError(f"program {name} takes {program.inputs}, expected {PROGRAMS[name][0]}")
    return program


def _stage(entry: dict[str, Any]) -> Stage:
    outputs = as_names(entry["outputs"])
    if "sizes" in entry:
        sizes = tuple(as_whole(size, 1, 1 << 16) for size in entry["sizes"])
        if len(sizes) != len(outputs):
            raise ValueError(f"a stage cuts {len(outputs)} tensors to {len(sizes)} sizes")
        return SplitStage(as_text(entry["input"]), sizes, outputs)
    inputs = as_names(entry["inputs"])
    if "graph" in entry:
        typed = {as_text(key): as_text(file) for key, file in entry.get("typed", {}).items()}
        return SegmentStage(as_text(entry["graph"]), inputs, outputs, typed)
    return KernelStage(as_text(entry["kernel"]), inputs, outputs)


def check_program(name: str, program: ProgramSpec) -> None:
    """Every tensor is made before it is used, and kernels have as many as they take.

    Raises:
        ValueError: the message says which one is not.
    """
    known = set(program.inputs)
    for stage in program.stages:
        if not known.issuperset(stage.inputs):
            raise ValueError(f"program {name} uses {', '.join(sorted(set(stage.inputs) - known))} before it is made")
        if isinstance(stage, KernelStage) and (len(stage.inputs), len(stage.outputs)) != KERNELS[stage.kernel]:
            raise ValueError(f"kernel {stage.kernel} has {len(stage.inputs)} inputs and {len(stage.outputs)} outputs")
        known.update(stage.outputs)
    if program.outputs != PROGRAMS[name][1] or not known.issuperset(program.outputs):
        raise ValueError(f"program {name} does not make all of its outputs, {', '.join(PROGRAMS[name][1])}")
