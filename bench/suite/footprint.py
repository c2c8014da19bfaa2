"""What a variant costs beside time to count: a new process, its memory, and its place on disk."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.bundle.bundle import load_bundle
from engine.cli.timing import Timing
from engine.cli.variants import Variant, all_variants
from engine.config import PERFORMANCES
from suite.groups import Case, Group, MissingError, Way, WrongResultError
from suite.plan import Plan
from suite.results import Row, plain_row, timed_row

# Imports, makes a counter, counts once, and says how long each took and how much memory the process had at most.
_PROGRAM = """
import json, resource, sys, time
start = time.perf_counter()
import engine
imported = time.perf_counter()
counter = engine.CrowdCounter(**json.loads(sys.argv[1]))
made = time.perf_counter()
import numpy
size = json.loads(sys.argv[2])
result = counter.count(numpy.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8))
counted = time.perf_counter()
# Linux counts what the process was forked from to its ru_maxrss.
try:
    high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    peak = int(high.split()[1]) / 1e3
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
laps = {"import": imported - start, "load": made - imported, "first count": counted - made, "all": counted - start}
print(json.dumps({"ms": {name: 1e3 * lap for name, lap in laps.items()}, "peak": peak, "count": result.count}))
"""
_CACHED = ", compiled before"


def process_cases(plan: Plan) -> list[Case]:
    """A process that counts one picture, from its import on."""
    variants = list(_variants(plan))
    # A cache of compiled models is OpenVINO's and TensorRT's.
    cached = [label + _CACHED for label in variants if not label.startswith("torch")]
    labels = (*variants, *cached)
    size = (96, 64) if plan.quick else (1024, 768)
    make = functools.partial(_process_group, plan, labels, size)
    return [Case("new process", make, labels, plan.budget(10.0, least=2, slowest=30.0))]


def _variants(plan: Plan) -> dict[str, Variant]:
    # How the cores are used makes no difference to a process that counts once.
    return {str(x): x for x in all_variants(plan.devices) if x.performance == PERFORMANCES[0]}


def _process_group(plan: Plan, labels: tuple[str, ...], size: tuple[int, int]) -> Group:
    variants = _variants(plan)
    seen: dict[str, list[dict[str, Any]]] = {}

    def make(label: str) -> Way:
        variant = variants[label.removesuffix(_CACHED)]
        runs = seen.setdefault(label, [])
        if not label.endswith(_CACHED):
            return Way(functools.partial(_run_cold, variant, size, runs))
        folder = tempfile.TemporaryDirectory()
        _run(variant, size, folder.name, [])
        return Way(functools.partial(_run, variant, size, folder.name, runs), close=folder.cleanup)

    def check(label: str, output: dict[str, Any]) -> None:
        if not (isinstance(output["count"], int) and output["count"] >= 0):
            raise WrongResultError(f"{label} counts {output['count']}; it is not timed")

    def rows(label: str, timing: Timing) -> list[Row]:
        runs = seen[label][-len(timing.samples) :]
        laps = [
            timed_row("cold start", f"{case}: {lap}", label, Timing(tuple(run["ms"][lap] for run in runs)))
            for lap in runs[0]["ms"]
        ]
        return [*laps, plain_row("memory", f"{case}: peak", label, "MB", max(run["peak"] for run in runs))]

    case = f"{size[0]}x{size[1]}"
    ways = {label: functools.partial(make, label) for label in labels}
    return Group("process", case, ways, check, {"width": size[0], "height": size[1]}, more_rows=rows)


def _run_cold(variant: Variant, size: tuple[int, int], seen: list[dict[str, Any]]) -> dict[str, Any]:
    """With nothing compiled before: not even by its own last run."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(variant, size, folder, seen)


def _run(variant: Variant, size: tuple[int, int], cache: str, seen: list[dict[str, Any]]) -> dict[str, Any]:
    options = {"backend": variant.backend, "compute_type": variant.compute_type, "device": variant.device}
    arguments = [json.dumps({**options, "cache_dir": cache}), json.dumps(size)]
    # Without -P a source folder in the current one would be imported.
    command = [sys.executable, "-P", "-c", _PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(done.stderr.strip().splitlines()[-1])
    seen.append(json.loads(done.stdout.splitlines()[-1]))
    return seen[-1]


def disk_rows() -> list[Row]:
    """Sizes of the shipped model, and of the packages of each runtime, from the files that pip installed."""
    return [plain_row("disk", name, "installed", "MB", size / 1e6) for name, size in _sizes().items()]


def _sizes() -> dict[str, int]:
    sizes = {"the model's bundle": _folder_size(load_bundle("default").path.rglob("*"))}
    for name in ("openvino", "torch", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13"):
        try:
            files = metadata.files(name)
        except metadata.PackageNotFoundError:
            continue
        sizes[name] = _folder_size(Path(str(file.locate())) for file in files or ())
    return sizes


def _folder_size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
