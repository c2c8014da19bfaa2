"""A manifest counted by the local command and on Ray with 1, 2 and 4 actors, in one run: ``python -P bench/scale.py``.

Times are of the processors, of every process that takes part, so that they mean something on a machine that does other
things too; wall-clock times are given beside them. Every run must give the same rows before its time is shown.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.dataset
from PIL import Image

SAMPLE = Path(__file__).parent.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"
_TICK = os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Seconds of processor time of some processes and all below them, looked at again and again while they live."""

    def __init__(self, *roots: int):
        self._roots, self._seen, self._over = set(roots), dict[int, float](), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        self._look()
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._look()

    def _look(self) -> None:
        parents, times = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
                times[int(entry.name)] = (int(fields[11]) + int(fields[12])) / _TICK
        for pid, spent in times.items():
            ancestor = pid
            while ancestor and ancestor not in self._roots:
                ancestor = parents.get(ancestor, 0)
            if ancestor:
                self._seen[pid] = spent


@contextmanager
def cluster(cpus: int) -> Iterator[tuple[str, int]]:
    """The address of a Ray cluster on this machine, and the process above all others of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        words = ["start", "--head", "--block", f"--num-cpus={cpus}", f"--port={port}", "--node-ip-address=127.0.0.1"]
        words += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
        log = Path(folder, "log")
        with open(log, "w") as output:
            command = [sys.executable, "-P", "-m", "ray.scripts.scripts", *words]
            with subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as head:
                while "Ray runtime started" not in log.read_text():
                    time.sleep(0.2)
                yield f"127.0.0.1:{port}", head.pid
                head.terminate()


def run(manifest: Path, out: Path, *words: str, above: int | None = None) -> dict[str, Any]:
    """Processor and wall-clock seconds of one job, and its rows."""
    program = "from engine.cli import run; run()"
    command = [sys.executable, "-P", "-c", program, "count", "--manifest", str(manifest), "--out", str(out), *words]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=out.parent, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        watch = ProcessorTime(process.pid, *[above] if above else [])
        process.wait()
        wall, spent = time.perf_counter() - start, watch.stop()
    table = pyarrow.dataset.dataset(out, format="parquet").to_table().drop_columns(["seconds"]).sort_by("id")
    return {"processor": spent, "wall": wall, "rows": table.to_pylist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--width", type=int, default=640)
    options = parser.parse_args()
    # A password for these clusters alone.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = Image.open(SAMPLE).convert("RGB")
        picture = picture.resize((options.width, options.width * 3 // 4))
        for number in range(options.pictures):
            picture.rotate(number % 7 - 3).save(folder / f"{number}.jpg")
        manifest = folder / "manifest.txt"
        manifest.write_text("".join(f"{folder / f'{number}.jpg'}\n" for number in range(options.pictures)))
        one = ["--threads", "1", "--part-rows", "10"]
        local = run(manifest, folder / "local", *one)
        print(f"{options.pictures} pictures of {picture.width}x{picture.height}; seconds of processor, of the clock")
        _show("local, 1 thread", local, options.pictures)
        for actors in (1, 2, 4):
            with cluster(actors + 2) as (address, head):
                ray = run(
                    manifest, folder / f"ray{actors}", *one, "--ray", address, "--actors", str(actors), above=head
                )
            assert ray["rows"] == local["rows"]
            _show(f"Ray, {actors} actors of 1 thread", ray, options.pictures, local)


def _show(name: str, job: dict[str, Any], pictures: int, local: dict[str, Any] | None = None) -> None:
    more = f", {job['processor'] / local['processor']:.2f} of local" if local else ""
    print(f"{name}: {job['processor']:.1f} s, {job['wall']:.1f} s; {pictures / job['processor']:.2f} pictures a "
          f"core-second{more}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
