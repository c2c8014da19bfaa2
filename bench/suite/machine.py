"""What a result must be read with: commit, hardware and versions."""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.cuda.driver import probe_library
from engine.cli.machine import probe_cuda, read_cpu, read_versions
from engine.errors import BackendError

ROOT = Path(__file__).parents[2]
# Beside those that counting uses.
_PEERS = ("diffusers", "scikit-image", "scipy")
# Side of the matrices of the anchor: about 3 ms on two cores.
_ANCHOR = 512


def describe() -> dict[str, Any]:
    """Commit, CPU, GPUs and versions of this machine, as JSON takes them."""
    cpu, cuda = read_cpu(), probe_cuda()
    versions = {**read_versions(), **read_versions(_PEERS)}
    return {
        "commit": _commit(),
        "cpu": cpu.name,
        "cores": cpu.cores,
        "instructions": list(cpu.features),
        "gpus": list(cuda.devices),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version for name, version in versions.items() if version},
    }


def devices() -> tuple[list[str], str | None]:
    """What to time on: ("cpu", or also "cuda"), and why there is no CUDA."""
    try:
        probe_library()
    except BackendError as error:
        return ["cpu"], str(error)
    return ["cpu", "cuda"], None


def anchor() -> Callable[[], float]:
    """A fixed computation; each call gives the milliseconds it took now, the least of three."""
    a, b = np.random.default_rng(0).standard_normal((2, _ANCHOR, _ANCHOR)).astype(np.float32)
    out = np.empty_like(a)

    def run() -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            np.matmul(a, b, out=out)
            times.append(1e3 * (time.perf_counter() - start))
        return min(times)

    return run


def _commit() -> str:
    """Short hash, with "+" where files of the engine differ from it; "unknown" outside of a clone."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!bench/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
