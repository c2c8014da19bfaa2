"""What of backend "tensorrt" is there: each part by itself, so that one sees which is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from engine.backends.cuda.compiled import parse_kernels
from engine.backends.cuda.driver import find_device, load_driver
from engine.backends.cuda.launcher import choose_arch
from engine.backends.registry import why_no_gpu
from engine.backends.tensorrt.library import load_tensorrt
from engine.bundle.bundle import load_bundle
from engine.bundle.cubins import load_cubins
from engine.config import CounterConfig
from engine.errors import EngineError

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """One thing that counting on a GPU needs: whether it is there, and what was found, or what to do."""

    name: str
    found: bool
    detail: str


@dataclass(frozen=True)
class Gpu:
    """The parts, and why the first GPU cannot be used; None if it can."""

    parts: tuple[Part, ...]
    problem: str | None


def check_gpu(model: str = "default") -> Gpu:
    """Look for the driver, a TensorRT, compiled kernels and typed segments; nothing runs on the GPU."""
    parts = (
        _part("driver", _driver),
        _part("tensorrt", lambda: load_tensorrt().name),
        _part("kernels", lambda: _kernels(model)),
        _part("segments", lambda: _segments(model)),
    )
    try:
        problem = why_no_gpu(load_bundle(model), CounterConfig())
    except EngineError as error:
        problem = str(error)
    return Gpu(parts, problem)


def _part(name: str, look: Callable[[], str]) -> Part:
    try:
        return Part(name, True, look())
    except (EngineError, OSError, RuntimeError) as error:
        return Part(name, False, str(error))


def _driver() -> str:
    device = find_device(load_driver(), 0)
    return f"cuda:0 is {device.name}, compute capability {device.capability[0]}.{device.capability[1]}"


def _kernels(model: str) -> str:
    kernels = load_cubins(load_bundle(model).path)
    compiled = {kernel.arch for kernel in parse_kernels(kernels.entries)}
    have = " ".join(f"{arch // 10}.{arch % 10}" for arch in sorted(compiled))
    try:
        capability = find_device(load_driver(), 0).capability
    except EngineError:
        return f"compiled for {have} by Triton {kernels.compiler['triton']}"
    return f"compiled for {have}; this GPU runs those of {choose_arch(compiled, capability) / 10}"


def _segments(model: str) -> str:
    programs = load_bundle(model).programs.values()
    stages = [stage for program in programs for stage in program.stages if hasattr(stage, "typed")]
    types = set.intersection(*(set(stage.typed) for stage in stages))
    if not types:
        raise EngineError("the model has none in float16 or bfloat16; export it again with this version")
    return f"{len(stages)} in {', '.join(sorted(types, reverse=True))}"
