"""Everything that has to be seen on a GPU, in one command that ends within 6 minutes: ``python bench/first_light.py``.

It needs an NVIDIA driver, PyTorch with Triton, and cuda-bindings; no TensorRT and no network. Each part runs in a
process of its own: one that fails or hangs ends alone, and the others go on. Results go to ``first_light.json``.

    pip install --no-deps --no-build-isolation . && python bench/first_light.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The tolerances are those of the tests.
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]

_SECONDS = 345.0
_MOST_BYTES = 1_000_000
# Characters that are kept of what a part prints, and problems of it that are shown at once.
_MOST_OUTPUT = 4000
_SHOWN = 3
# Rows of a part that are kept where the results would be too long.
_MOST_ROWS = 200
_PACKAGES = ("torch", "triton", "cuda-bindings", "numpy", "tensorrt", "tensorrt-rtx-cu13", "crowd-engine")


@dataclass(frozen=True)
class Part:
    """A part by name: the module and function that run it, their arguments, and the seconds it may take."""

    module: str
    function: str
    seconds: float
    arguments: tuple[str, ...] = ()


# What says most comes first: what time is left is the later ones'.
PARTS = {
    "cubins": Part("light.cubins", "load_all", 40),
    "oracle float16": Part("light.oracle", "compare_all", 60, ("float16",)),
    "oracle bfloat16": Part("light.oracle", "compare_all", 60, ("bfloat16",)),
    "replay": Part("light.replay", "replay", 40),
    "torch": Part("light.whole", "count_by_torch", 90),
    "tensorrt": Part("light.whole", "count_by_tensorrt", 120),
    "kernel times": Part("light.kernel_times", "time_kernels", 90),
    "network times": Part("light.network_times", "time_network", 120),
    "count times": Part("light.network_times", "time_counts", 90),
}


def main() -> int:
    """Run the command line; the exit status is 0 if every part went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("first_light.json"), help="where the results go")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for all parts together")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return _run_here(PARTS[options.part], options.rows)
    end, machine, parts = time.monotonic() + options.seconds, describe(), {}
    for name in options.only:
        parts[name] = part = run_part(name, min(PARTS[name].seconds, end - time.monotonic()))
        print(summary(name, part), flush=True)
        # At once: what is found is kept, whatever happens later.
        options.out.write_text(to_json({"machine": machine, "parts": parts}))
    return 0 if all(is_well(part) for part in parts.values()) else 1


def summary(name: str, part: dict[str, Any]) -> str:
    """How a part went, and the first of its problems; the file has all of them."""
    wrong = [row for row in part["rows"] if not row["ok"]]
    right = len(part["rows"]) - len(wrong)
    lines = [f"{name}: {right} of {len(part['rows'])} right, {part['ended']}, {part['seconds']} s"]
    lines += [f"  {row['what']}: {row['problem']}" for row in wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"  and {len(wrong) - _SHOWN} more")
    if part["ended"] != "ended" and part["output"].strip():
        lines.append(f"  {part['output'].strip().splitlines()[-1]}")
    return "\n".join(lines)


def is_well(part: dict[str, Any]) -> bool:
    """Whether a part came to its end, and all that it tried is right."""
    return part["ended"] == "ended" and bool(part["rows"]) and all(row["ok"] for row in part["rows"])


def run_part(name: str, seconds: float) -> dict[str, Any]:
    """Run a part in a process of its own, for so many seconds at most; what it found until then."""
    if seconds < 5:
        return {"ended": "left out: no time is left", "seconds": 0.0, "rows": [], "output": ""}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows, output = Path(folder) / "rows", Path(folder) / "output"
        command = [sys.executable, __file__, "--part", name, "--rows", str(rows)]
        with output.open("wb") as file:
            # In a group of its own, with what it starts: compilers would otherwise outlive it.
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status = process.wait(seconds)
                ended = f"ended with status {status}" if status else "ended"
            except subprocess.TimeoutExpired:
                ended = f"stopped after {seconds:.0f} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = output.read_text(errors="replace")[-_MOST_OUTPUT:]
        lines = rows.read_text().splitlines() if rows.exists() else []
    found = [json.loads(line) for line in lines]
    return {"ended": ended, "seconds": round(time.monotonic() - start, 1), "rows": found, "output": said}


def _run_here(part: Part, rows: Path) -> int:
    from light.report import Report

    run: Callable[..., None] = getattr(__import__(part.module, fromlist=[part.function]), part.function)
    run(Report(rows), *part.arguments)
    return 0


def describe() -> dict[str, Any]:
    """What the results must be read with."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    return {
        "python": sys.version,
        "versions": versions,
        "gpus": _output(query),
        "commit": _output(["git", "-C", str(ROOT), "rev-parse", "HEAD"]),
    }


def _output(command: list[str]) -> list[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return [f"unknown: {error}"]


def to_json(results: dict[str, Any]) -> str:
    """The results in less than 1 MB: where they are longer, without what the parts printed, and problems cut short."""
    text = json.dumps(results, indent=1)
    if len(text) < _MOST_BYTES:
        return text
    short = {name: {**part, "output": "", "rows": _short(part["rows"])} for name, part in results["parts"].items()}
    return json.dumps({**results, "parts": short})


def _short(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "problem": row["problem"][:200]} if "problem" in row else row for row in rows[:_MOST_ROWS]]


if __name__ == "__main__":
    sys.exit(main())
