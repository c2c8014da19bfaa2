"""Other crowd counters in PyTorch and OpenVINO beside our whole count, with the errors of all of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from engine.bundle.bundle import load_bundle
from engine.cli.timing import Timing
from engine.cli.variants import REFERENCE, disagreement
from suite.accuracy import PEERS, our_errors
from suite.counts import limits, picture, shared_counters
from suite.groups import Case, Group, MissingError, Way, WrongResultError
from suite.plan import Plan
from suite.published import PUBLISHED

RUNTIMES = ("PyTorch float32", "OpenVINO float32", "OpenVINO bfloat16")
# What the others are checked against.
_ORACLE = RUNTIMES[0]
_STEPS = (1, 2, 3)
# Relative root mean square of a random network's output, from PyTorch's: float32 in another order, and bfloat16's
# 8 bits through up to 22 layers.
_FURTHEST = {"float32": 1e-3, "bfloat16": 0.1}


def peer_case(plan: Plan) -> Case:
    """All networks in all runtimes, and ours, in turns."""
    networks = [f"{name}, {runtime}" for name in PUBLISHED for runtime in RUNTIMES]
    ours = [f"crowd-engine, {steps} steps" for steps in _STEPS]
    size = (128, 96) if plan.quick else (1024, 768)
    make = functools.partial(peer_group, plan, size)
    return Case("crowd counters", make, (*networks, *ours), plan.budget(30.0, least=2, slowest=20.0))


def peer_group(plan: Plan, size: tuple[int, int]) -> Group:
    """Networks take a normalised picture; our count also normalises it, and finds the people."""
    width, height = size
    counters = shared_counters(plan)
    default = str(counters.default)
    pixels = (picture(width, height).astype(np.float32) / 255 - 0.45) / 0.27
    image = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])  # [1, 3, H, W]
    expected: dict[str, Any] = {}
    errors = our_errors(load_bundle("default"))

    def make(label: str) -> Way:
        name, _, how = label.partition(", ")
        if name in PUBLISHED:
            return Way(_forward(name, image) if how == _ORACLE else _openvino(name, how, image, plan.threads))
        steps = int(how.split()[0])
        expected[label] = counters[str(REFERENCE)].count(picture(width, height), steps=steps)
        counter = counters[default]
        return Way(lambda: counter.count(picture(width, height), steps=steps))

    def check(label: str, output: Any) -> None:
        name, _, how = label.partition(", ")
        if name in PUBLISHED:
            if name not in expected:
                expected[name] = output if how == _ORACLE else _forward(name, image)()
            _check_map(label, np.asarray(output), expected[name], _FURTHEST[how.split()[1]])
            return
        wrong = disagreement(output, expected[label], limits(default))
        if wrong:
            raise WrongResultError(f"{label} is wrong: {wrong}; it is not timed")

    def figures(label: str, timing: Timing) -> dict[str, Any]:
        name, _, how = label.partition(", ")
        if name in PUBLISHED:
            return {"mae_a": PUBLISHED[name].mae_a, "mae_b": PUBLISHED[name].mae_b}
        steps = int(how.split()[0])
        return {"steps": steps, **errors.get(steps, {})}

    labels = peer_case(plan).labels
    ways = {label: functools.partial(make, label) for label in labels}
    settings = {"width": width, "height": height, "batch": 1, "threads": plan.threads}
    return Group(PEERS, f"{width}x{height}", ways, check, settings, figures)


@functools.lru_cache(maxsize=1)
def _network(name: str) -> Any:
    from suite.networks import build

    return build(name)


@functools.lru_cache(maxsize=1)
def _converted(name: str, shape: tuple[int, ...]) -> Any:
    import openvino as ov
    import torch

    # Tracing runs the example, several times; a small one gives the same graph.
    return ov.convert_model(_network(name), example_input=torch.zeros(1, 3, 64, 64), input=list(shape))


def _forward(name: str, image: np.ndarray) -> Any:
    import torch

    network, tensor = _network(name), torch.from_numpy(image)

    def call() -> np.ndarray:
        with torch.inference_mode():
            return network(tensor).numpy()

    return call


def _openvino(name: str, how: str, image: np.ndarray, threads: int) -> Any:
    import openvino as ov

    core, compute_type = ov.Core(), how.split()[1]
    if compute_type == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise MissingError("this CPU has no bfloat16 instructions")
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}[compute_type],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(_converted(name, image.shape), "CPU", options)
    return lambda: compiled([image], share_inputs=True)[0]


def _check_map(label: str, output: np.ndarray, expected: np.ndarray, furthest: float) -> None:
    if output.shape != expected.shape:
        raise WrongResultError(f"{label} gives shape {output.shape}, PyTorch {expected.shape}; it is not timed")
    off = float(np.sqrt(np.square(output - expected).mean() / np.square(expected).mean()))
    if not off <= furthest:
        raise WrongResultError(f"{label} is {off:.2g} off PyTorch's output, more than {furthest:g}; it is not timed")
