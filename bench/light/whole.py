"""Whole counts on the GPU, by each backend that is there, against PyTorch in float32 on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tolerances import CONFORMANCE

import engine
from engine.backends.tensorrt.library import load_tensorrt
from engine.errors import BackendError
from engine.image.load import load_image
from light.report import Report

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"
TYPES = {"torch": ("float32", "float16", "bfloat16"), "tensorrt": ("float16", "bfloat16")}
_REPLAYS = 20


def count_by_torch(report: Report) -> None:
    """PyTorch with the Triton kernels, in one CUDA graph."""
    count_by(report, "torch")


def count_by_tensorrt(report: Report) -> None:
    """TensorRT or TensorRT-RTX with the compiled kernels, in one CUDA graph; a machine without either is told apart."""
    if missing := why_no_tensorrt():
        report.row("tensorrt", True, missing=missing)
    else:
        count_by(report, "tensorrt")


def why_no_tensorrt() -> str | None:
    """Why neither package can be imported; None if one can."""
    try:
        load_tensorrt()
    except BackendError as error:
        return str(error)
    return None


def count_by(report: Report, backend: str, device: str = "cuda") -> None:
    """A row for each type: the maps and the count are those of the CPU, and every repetition is the same."""
    image = load_image(PICTURE)
    with engine.CrowdCounter(device="cpu", backend="torch", compute_type="float32") as counter:
        expected = counter.count(image)
    for kind in TYPES[backend]:
        report.attempt(f"{backend}, {kind}", lambda kind=kind: _count(image, expected, backend, device, kind))


def _count(image: np.ndarray, expected: engine.CountResult, backend: str, device: str, kind: str) -> dict[str, Any]:
    with engine.CrowdCounter(device=device, backend=backend, compute_type=kind) as counter:
        first = counter.count(image)
        again = [counter.count(image) for _ in range(_REPLAYS)]
    allowed = CONFORMANCE[kind]
    norm = float(np.linalg.norm(expected.heatmap))
    heatmap = float(np.linalg.norm(first.heatmap - expected.heatmap)) / norm
    values = {"count": first.count, "on_the_cpu": expected.count, "heatmap": heatmap, "allowed": allowed.heatmap}
    different = sum(not np.array_equal(x.heatmap, first.heatmap) for x in again)
    if different:
        raise AssertionError(f"{different} of {_REPLAYS} repetitions differ; {values}")
    if not heatmap <= allowed.heatmap or abs(first.count - expected.count) > max(1, allowed.count * expected.count):
        raise AssertionError(f"the result is further from the CPU's than the type explains: {values}")
    return values
