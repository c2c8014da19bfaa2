"""Whole counts of two installed engines in turns: ``python bench/against.py OLD_PYTHON PICTURE... [--model BUNDLE]``.

OLD_PYTHON is the interpreter of the other environment, such as that of an older release; the engine that runs this
script is the new one. Each keeps a counter of every compute type in a process of its own, and they count the same
pictures in turns, so that both share the machine's moods. Nothing is timed whose maps are not those of PyTorch in the
same environment, or whose points differ from count to count. Prints, for each type, the milliseconds of both and the
ratio new / old, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = ("float32", "bfloat16", "int8")
# Largest root mean square of a heat map's difference from PyTorch's in float32, as a share of that map's: the
# tolerances of the conformance test (tests/tolerances.py), and half as much again for pictures that it does not have.
_FURTHEST = {"float32": 0.0015, "bfloat16": 0.15, "int8": 0.3}

# What runs in either environment: it knows nothing but the public API, so that any release will do. Reads commands as
# JSON lines, answers each with one.
_WORKER = """
import json, sys, time
import numpy as np
import engine

pictures, counters = [], {}
for line in sys.stdin:
    task = json.loads(line)
    try:
        if task["do"] == "open":
            pictures = [np.asarray(__import__("PIL.Image").Image.open(p).convert("RGB")) for p in task["pictures"]]
            answer = {"file": engine.__file__}
        elif task["do"] == "counter":
            options = {"backend": "openvino", "compute_type": task["type"], "cpu_threads": task["threads"]}
            counter = engine.CrowdCounter(task["model"], performance=task["performance"], **options)
            counters[task["type"]] = counter
            with engine.CrowdCounter(task["model"], backend="torch", compute_type="float32") as reference:
                off = 0.0
                for picture in pictures:
                    expected = reference.count(picture).heatmap
                    found = counter.count(picture).heatmap
                    off = max(off, float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1.0)))
            answer = {"off": off}
        else:
            picture = pictures[task["picture"]]
            clock = {"wall": time.perf_counter, "processor": time.process_time}[task["clock"]]
            start = clock()
            result = counters[task["type"]].count(picture)
            seconds = clock() - start
            answer = {"ms": 1e3 * seconds, "points": hash(result.points.tobytes()), "count": int(result.count)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


class WorkerError(Exception):
    """An environment cannot do what it was asked for; the message is its error."""


class Worker:
    """An engine in an environment of its own."""

    def __init__(self, python: str, pictures: list[Path]):
        self._process = subprocess.Popen(
            [python, "-P", "-c", _WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.file: str = self.ask(do="open", pictures=[str(path.resolve()) for path in pictures])["file"]
        except WorkerError:
            self.close()
            raise

    def ask(self, **task: Any) -> dict[str, Any]:
        """Its answer to a command.

        Raises:
            WorkerError: it failed.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(task), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"the process of {self._process.args!r} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass(frozen=True)
class Pairs:
    """Milliseconds of both engines, [rounds] each: every round has one count of each picture by each engine."""

    old: np.ndarray
    new: np.ndarray

    def __str__(self) -> str:
        ratios = np.percentile(self.new / self.old, [20, 50, 80])
        return (
            f"old {np.median(self.old):8.1f} ms  new {np.median(self.new):8.1f} ms  "
            f"new / old {ratios[1]:.3f} ({ratios[0]:.3f} to {ratios[2]:.3f}), {len(self.old)} rounds"
        )


def compare(old: Worker, new: Worker, compute_type: str, pictures: int, rounds: int, clock: str = "wall") -> Pairs:
    """Count in turns; mean milliseconds of a picture, on the clock called ``clock``.

    Raises:
        WorkerError: a count fails, or an engine finds other points than before.
    """
    known: dict[tuple[int, int], int] = {}
    times = np.zeros((2, rounds))
    # The first round warms up, and is not kept.
    for number in range(-1, rounds):
        for picture in range(pictures):
            # The order changes, so that neither is always the one that finds the other's data in the caches.
            for index in (0, 1) if number % 2 else (1, 0):
                answer = (old, new)[index].ask(do="count", type=compute_type, picture=picture, clock=clock)
                if known.setdefault((index, picture), answer["points"]) != answer["points"]:
                    raise WorkerError(f"picture {picture} has other points than before: nothing is timed")
                if number >= 0:
                    times[index, number] += answer["ms"] / pictures
    return Pairs(*times)


def main() -> int:
    """Run the command line: 1 if an engine is refused or fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="Python of the other environment")
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default="default", help="bundle of the new engine (default: its own)")
    parser.add_argument("--types", nargs="+", choices=_TYPES, default=_TYPES)
    parser.add_argument("--performance", default="latency", choices=("balanced", "latency"))
    parser.add_argument("--threads", type=int, default=0, help="0 is all cores")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "processor"),
        help="processor: the time of all threads on the cores, which other programs of a busy machine hardly change",
    )
    options = parser.parse_args()
    workers = [Worker(python, options.pictures) for python in (options.old, sys.executable)]
    failed = 0
    print(f"old: {workers[0].file}\nnew: {workers[1].file}, model {options.model}")
    for compute_type in options.types:
        try:
            for worker, model in zip(workers, ("default", options.model), strict=True):
                settings = {"type": compute_type, "model": model, "performance": options.performance}
                off = worker.ask(do="counter", threads=options.threads, **settings)["off"]
                if not off <= _FURTHEST[compute_type]:
                    raise WorkerError(f"{worker.file}: the heat map is {off:.0%} off PyTorch's: it is not timed")
            pairs = compare(*workers, compute_type, len(options.pictures), options.rounds, options.clock)
            print(f"{compute_type:9}", pairs, flush=True)
        except WorkerError as error:
            print(f"{compute_type:9} {error}")
            failed = 1
    for worker in workers:
        worker.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
