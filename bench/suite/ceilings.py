"""What this machine can do at most, measured: the roofs that kernels are held against."""

from __future__ import annotations

import functools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from engine import _core
from engine.cli.timing import interleave, wall
from suite.groups import MISSING, MissingError

_FMA_SOURCE = Path(__file__).with_name("fma_loop.cpp")
# Side of the matrices of the dot product; larger ones are no faster.
_DOT = 1536
# Bytes of the arrays that are copied: within the second cache, the third, and beyond them.
_COPIES = (1 << 18, 1 << 21, 1 << 24, 1 << 28)


@dataclass(frozen=True)
class Ceilings:
    """GFLOP/s and GB/s, None where something needed is missing; ``missing`` says what.

    Attributes:
        fma: float32 multiply-adds in registers: a compiled loop that touches no memory.
        dot: products of large matrices, by type, as PyTorch's oneDNN does them.
        copies: bytes read and written by a copy of arrays of so many bytes, by NumPy on one thread and PyTorch on all,
            whichever is faster.
    """

    fma: float | None = None
    dot: dict[str, float] = field(default_factory=dict)
    copies: dict[int, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def flops(self, dtype: str) -> float | None:
        """The most GFLOP/s in a type."""
        known = [x for x in (self.fma if dtype == "float32" else None, self.dot.get(dtype)) if x]
        return max(known) if known else None

    def bandwidth(self, nbytes: float) -> float | None:
        """The most GB/s for so many bytes in all: of the copy whose size is nearest."""
        if not self.copies:
            return None
        # A copy of n bytes touches 2 n.
        return self.copies[min(self.copies, key=lambda size: abs(math.log(2 * size / nbytes)))]

    def roof(self, gflops: float, gbps: float, nbytes: float, dtype: str) -> float | None:
        """Per cent of what is possible at the ratio of the two rates: the nearer of the two roofs.

        Source: Williams, Waterman, Patterson, Roofline (CACM 2009).

        >>> Ceilings(fma=100.0, copies={1000: 10.0}).roof(25.0, 1.0, 2000, "float32")
        25.0
        >>> Ceilings(fma=100.0, copies={1000: 10.0}).roof(25.0, 8.0, 2000, "float32")
        80.0

        Without a rate of bytes, of the one roof.

        >>> Ceilings(fma=100.0).roof(25.0, 0.0, 0.0, "float32")
        25.0
        """
        flops, bandwidth = self.flops(dtype), self.bandwidth(nbytes) if gbps else None
        if (gbps and bandwidth is None) or (gflops and flops is None):
            return None
        return 100 * max(gbps / bandwidth if bandwidth else 0.0, gflops / flops if flops else 0.0)


def measure_ceilings(seconds: float, threads: int, largest: int = 1 << 28) -> Ceilings:
    """Measure all of them, about ``seconds`` long.

    Args:
        seconds: to spend, beside building the loop.
        threads: of the loop.
        largest: bytes of the arrays that are copied.
    """
    missing: dict[str, str] = {}

    def attempt(name: str, call: Callable[[], float]) -> float | None:
        try:
            return call()
        except MISSING as error:
            missing[name] = str(error)
            return None

    fma = attempt("FMA loop", functools.partial(_fma_loop, threads))
    dots = {dtype: attempt(f"{dtype} dot", functools.partial(_dot, dtype, seconds / 6)) for dtype in _DOT_TYPES}
    copies = {size: _copy(size, seconds / 8) for size in _COPIES if size <= largest}
    return Ceilings(fma, {dtype: rate for dtype, rate in dots.items() if rate}, copies, missing)


_DOT_TYPES = ("float32", "bfloat16", "int8")


def _fma_loop(threads: int) -> float:
    compiler = next((x for x in ("c++", "g++", "clang++") if shutil.which(x)), None)
    if compiler is None:
        raise MissingError("no C++ compiler is there to build the loop with; install g++ or clang++")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fma_loop"
        # Without -ffast-math the sums are not merged: every multiply-add is done.
        flags = ["-O3", "-march=native", "-std=c++17", "-pthread"]
        command = [compiler, *flags, str(_FMA_SOURCE), "-o", str(program)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise MissingError(f"the loop cannot be compiled: {built.stderr.strip()[-300:]}")
        runs = [subprocess.run([program, str(threads)], capture_output=True, text=True, check=True) for _ in range(3)]
    return max(float(run.stdout) for run in runs)


def _dot(dtype: str, seconds: float) -> float:
    import torch

    from engine.model.precision import has_bfloat16

    # Without them a product takes up to a minute, and says nothing of the machine.
    if not {"float32": True, "bfloat16": has_bfloat16(), "int8": _core.has_int8_dot()}[dtype]:
        raise MissingError(f"this CPU has no instructions for products of {dtype}")
    if dtype == "int8":
        if not hasattr(torch, "_int_mm"):
            raise MissingError("this PyTorch has no product of int8 matrices")
        a, b = torch.randint(-100, 100, (2, _DOT, _DOT), dtype=torch.int8)
        multiply, out = torch._int_mm, torch.empty(_DOT, _DOT, dtype=torch.int32)
    else:
        a, b = torch.randn(2, _DOT, _DOT).to(getattr(torch, dtype))
        multiply, out = torch.mm, torch.empty_like(a)
    stint = wall(lambda: multiply(a, b, out=out))
    (timing,) = interleave({dtype: stint}, seconds, least=3).values()
    return 2 * _DOT**3 / min(timing.samples) / 1e6


def _copy(size: int, seconds: float) -> float:
    source, target = np.ones((2, size // 4), np.float32)
    stints = {"numpy": wall(lambda: np.copyto(target, source))}
    # The faster of the two is the ceiling; without PyTorch, NumPy's copy is.
    if find_spec("torch"):
        import torch

        ours, theirs = torch.from_numpy(target), torch.from_numpy(source)
        stints["torch"] = wall(lambda: ours.copy_(theirs))
    timings = interleave(stints, seconds, least=3)
    best = min(min(timing.samples) for timing in timings.values())
    return 2 * size / best / 1e6
