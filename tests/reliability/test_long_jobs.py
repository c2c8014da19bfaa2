"""Manifests of many pictures: bounded memory, and every row once whenever the process is killed."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image
from reliability.processes import HANG_S, environment, python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

_CROWD = "from engine.cli import run; run()"
# By which memory may grow once the job is under way.
_MORE_MB = 20


def write_manifest(folder: Path, count: int) -> Path:
    """Pictures of 64x64, 1 % of them broken."""
    rng = np.random.default_rng(0)
    files = [folder / f"{number:06}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        if number % 100 == 50:
            file.write_bytes(b"broken")
        else:
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    manifest = folder / "manifest.txt"
    manifest.write_text("".join(f"{file}\n" for file in files))
    return manifest


def count(manifest: Path, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    command = python("-c", _CROWD, "count", "--manifest", manifest, *words, "--threads", "1", "--quiet")
    return subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL, cwd=manifest.parent, **options)


def read(out: Path) -> list[dict[str, Any]]:
    table = pyarrow.dataset.dataset(out, format="parquet").to_table()
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{**row, "seconds": None} for row in rows]


def _memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, long_run: bool) -> None:
    """From row 2,000 to 20,000; from 500 to 1,500 in the short form."""
    total, start, part = (20_000, 2_000, 1_000) if long_run else (1_500, 500, 250)
    out, samples = tmp_path / "out", []
    began = time.monotonic()
    with count(write_manifest(tmp_path, total), "--out", out, "--part-rows", str(part)) as process:
        while process.poll() is None:
            parts = len(list(out.glob("part-*.parquet")))
            if parts * part >= start:
                samples.append(_memory_mb(process.pid))
            assert time.monotonic() - began < 20 * HANG_S
            time.sleep(0.2)
    # The last one may be of a process that had ended.
    samples = [sample for sample in samples if sample]
    print(f"{samples[0]:.1f} MB at row {start}, at most {max(samples):.1f}, {samples[-1]:.1f} at row {total}; "
          f"{total / (time.monotonic() - began):.1f} pictures a second")  # fmt: skip
    assert process.returncode == 1
    rows = read(out)
    assert [row["id"] for row in rows] == list(range(total))
    assert [row["id"] for row in rows if row["error"]] == list(range(50, total, 100))
    assert max(samples) - samples[0] < _MORE_MB


def test_killed_at_random_moments_and_resumed(tmp_path: Path, long_run: bool) -> None:
    """Parquet parts and a table; three (ten) kills each, also while they are written."""
    kills, rng = 10 if long_run else 3, np.random.default_rng(1)
    manifest = write_manifest(tmp_path, 100 * kills)
    out, table = tmp_path / "out", tmp_path / "t.csv"
    for words in (["--out", out, "--part-rows", "7"], ["--csv", table]):
        done = 0
        for _ in range(kills):
            with count(manifest, *words, "--resume") as process:
                before = done
                while process.poll() is None and done < before + 20:
                    time.sleep(0.01)
                    done = max(done, _rows(out, table, words))
                time.sleep(rng.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
        with count(manifest, *words, "--resume") as process:
            process.wait(HANG_S)
        assert process.returncode in (0, 1)
    rows = read(out)
    assert [row["id"] for row in rows] == list(range(100 * kills))
    whole = tmp_path / "whole"
    with count(manifest, "--out", whole) as process:
        process.wait(HANG_S)
    assert rows == read(whole)
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [line["file"] for line in lines] == [row["uri"] for row in rows]
    assert [line["count"] for line in lines] == ["" if row["count"] is None else str(row["count"]) for row in rows]
    assert not (tmp_path / "t.csv.journal").exists()


def _rows(out: Path, table: Path, words: list[Any]) -> int:
    """Rows that are there by now."""
    journal = out / "_journal" if "--out" in words else table.with_name("t.csv.journal")
    lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
    return lines + sum(pq.read_metadata(file).num_rows for file in out.glob("*.parquet") if "--out" in words)
