"""A bundle with int8 convolutions, pictures to calibrate it on, and what its convolutions should round to."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine import _core
from engine.bundle.bundle import Bundle, SegmentStage
from engine.export.quantize import QuantizeReport

# A limit that every convolution is within.
GENEROUS = 1e6
# The shipped bundle's weights suit sums of 16 bits, which every x86 CPU has.
NEEDS_INT8 = pytest.mark.skipif(
    not _core.has_int8_dot() and platform.machine().lower() not in {"x86_64", "amd64"},
    reason="the backend refuses int8 on a CPU that is not x86 and has no int8 dot products",
)
# The segments, by program and number.
SEGMENTS = [("encoder", 0), ("encoder", 1), ("encoder", 2), ("decoder", 0), ("decoder", 1)]


def noise_pictures(folder: Path, numbers: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Pictures of noise at several scales, and nobody in them."""
    (folder / "images").mkdir(parents=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        planes = [np.kron(rng.integers(0, 64, (64 // n, 96 // n, 3)), np.ones((n, n, 1))) for n in (4, 8, 16, 32)]
        Image.fromarray(sum(planes).astype(np.uint8)).save(folder / "images" / f"IMG_{number}.png")
    names = [f"IMG_{number}.png" for number in numbers]
    (folder / "points.json").write_text(json.dumps({name: [] for name in names}))
    return folder


def copy_bundle(bundle: Bundle, folder: Path) -> Path:
    """The bundle's files in ``folder``, which must not exist."""
    shutil.copytree(bundle.path, folder)
    return folder


def segments(bundle: Bundle, program: str) -> list[SegmentStage]:
    """The segments of one program, in order."""
    return [x for x in bundle.programs[program].stages if isinstance(x, SegmentStage)]


def int8_names(report: QuantizeReport, program: str) -> set[str]:
    """The int8 convolutions of one program."""
    return {x.convolution for x in report.rows if x.program == program and x.quantized}


def rounded_weight(weight: np.ndarray) -> np.ndarray:
    """[O, I, h, w] in 127 steps of each output channel's largest weight or sum of channels 0 and 1, 2 and 3, ..."""
    rounded = np.empty_like(weight)
    for channel, kernel in enumerate(weight):
        sums = [kernel[i : i + 2].astype(np.float32).sum(axis=0) for i in range(0, len(kernel), 2)]
        step = np.float32(max(np.abs(x).max() for x in (kernel, *(sums if len(kernel) > 1 else ()))) / 127)
        rounded[channel] = np.round(kernel / step) * step
    return rounded
