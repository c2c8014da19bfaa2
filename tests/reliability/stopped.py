"""Commands stopped by a signal at random moments: ``python -m reliability.stopped COMMAND`` from the folder ``tests``.

What a command needs is imported once; each trial runs it in a forked process, as the console script would, and
sends the signal somewhere within the time that it takes. The last line is a list of the outcomes in JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

import engine
from engine import cli
from engine.bundle.bundle import add_files
from engine.cli import command, doctor
from engine.stream.opening import StreamOptions, open_source
from engine.stream.pipeline import CountStream, FrameReader, count_frames

PICTURES = 6
OLD = "old\n"
Trial = Callable[[], None]


class StandIn:
    """Counts nothing, at once, but gives a whole result: the moments of interest are those of reading and writing."""

    result: Any = None
    settings: ClassVar[dict[str, Any]] = {"model": "none"}

    def __init__(self, **_: object) -> None: ...

    def close(self) -> None: ...

    def count(self, img: Any, **_: object) -> Any:
        return self.result

    def stream(self, source: Any, **_: object) -> CountStream:
        """The frames are read by the thread that reads them in earnest."""
        reader = FrameReader(open_source(source, StreamOptions()))
        plan: Any = None
        return CountStream(reader, count_frames(reader, plan, None, lambda images, _: (self.result for _ in images)))


def prepare(folder: Path) -> None:
    """A data set, a bundle, and the result that every picture gives."""
    (folder / "data" / "images").mkdir(parents=True)
    for number in range(PICTURES):
        Image.new("RGB", (64, 64)).save(folder / "data" / "images" / f"{number}.png")
    points = {f"{number}.png": [[3, 4], [10, 20]] for number in range(PICTURES)}
    (folder / "data" / "points.json").write_text(json.dumps(points))
    (folder / "out").mkdir()
    with engine.CrowdCounter(cpu_threads=1) as counter:
        StandIn.result = counter.count(np.zeros((64, 64, 3), np.uint8))


def crowd(*words: str | Path) -> Trial:
    """The console script with these arguments."""

    def trial() -> None:
        command._crowd_counter = StandIn
        sys.argv = ["crowd", *(str(word) for word in words)]
        cli.run()

    return trial


def trials(name: str, folder: Path) -> Trial:
    """What is stopped."""
    data, out = folder / "data", folder / "out"
    if name == "count":
        outputs = ("--csv", out / "counts.csv", "--json", out / "counts.json", "--jsonl", out / "counts.jsonl")
        return crowd("count", data, *outputs, "--save", out / "overlays", "--save-map", out / "maps")
    if name == "eval":
        # Loads SciPy, which takes longer than all the rest.
        import scipy.optimize  # noqa: F401

        return crowd("eval", data, "--json", out / "eval.json", "--quiet")
    if name == "stream":
        outputs = ("--csv", out / "frames.csv", "--json", out / "frames.jsonl", "--save-maps", out / "maps")
        return crowd("stream", data / "images", *outputs, "--save", out / "counted.mp4")
    if name == "doctor":
        doctor._try_count = lambda backend: backend
        return crowd("doctor", "--json")
    if name == "export":
        return _export(folder)
    from reliability.small_bundle import write_small_bundle

    write_small_bundle(out / "bundle")
    contents = {"cubins.zip": b"new" * 1_000_000, "second.bin": b"new" * 1_000_000}
    return lambda: sys.exit(0 if add_files(out / "bundle", contents, {"maker": "1"}) else 1)


def _export(folder: Path) -> Trial:
    """A small network; the new bundle appears in the folder ``out``."""
    import torch

    # A forked process waits without end for threads that PyTorch made before.
    torch.set_num_threads(1)
    from engine.config import ModelConfig
    from engine.export.__main__ import main
    from engine.model.checkpoint import save_model
    from engine.model.network import CrowdNetwork

    model = ModelConfig(widths=(32,) * 5, depths=(0, 0, 1, 1, 0), features=32, attention_dim=16, decoder_width=32)
    save_model(CrowdNetwork(model).eval(), {1: {"low": 0.5, "high": 0.6}}, folder / "best.pt")
    words = [str(folder / "best.pt"), str(folder / "out" / "bundle")]
    # Imports what the exporter loads when it runs.
    main([words[0], str(folder / "first")])
    return crowd("export", *words)


def stop(trial: Trial, number: int, delay: float, log: Path) -> dict[str, Any]:
    """Run ``trial`` in a process of its own, send it the signal after ``delay`` seconds, and say how it ended."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _become(trial, write, log)
    os.close(write)
    os.read(read, 1)
    start = time.perf_counter()
    time.sleep(delay)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    os.close(read)
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "seconds": time.perf_counter() - start, "log": log.read_text(errors="replace")}


def _become(trial: Trial, ready: int, log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.write(ready, b"x")
    code: Any = 99
    try:
        trial()
    except SystemExit as stopped:
        code = stopped.code or 0
    except BaseException:
        traceback.print_exc()
    # As the interpreter does when it ends.
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_trials(name: str, number: int, count: int, folder: Path) -> list[dict[str, Any]]:
    """Each outcome, with the names of the files that were there afterwards; ``folder/trial-N`` keeps them."""
    random.seed(name)
    prepare(folder)
    trial, out = trials(name, folder), folder / "out"
    never = stop(trial, 0, 0.0, folder / "log")
    assert never["code"] == 0, never
    if name == "export":
        # The exporter does not write over a bundle.
        shutil.rmtree(out / "bundle")
    outcomes = []
    for index in range(count):
        for file in ("counts.csv", "counts.json", "eval.json"):
            (out / file).write_text(OLD)
        outcome = stop(trial, number, random.uniform(0, 1.1 * never["seconds"]), folder / "log")
        kept = folder / f"trial-{index}"
        out.rename(kept)
        out.mkdir()
        if (kept / "bundle").is_dir() and name == "bundle":
            trials(name, folder)
        outcomes.append(outcome | {"files": sorted(str(x.relative_to(kept)) for x in kept.rglob("*"))})
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["count", "eval", "stream", "doctor", "export", "bundle"])
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--signal", type=int, default=signal.SIGINT)
    parser.add_argument("--trials", type=int, default=20)
    options = parser.parse_args()
    print(json.dumps(run_trials(options.command, options.signal, options.trials, options.folder)))


if __name__ == "__main__":
    main()
