"""The same job on a Ray cluster: the same rows, whatever dies in the middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from PIL import Image

import engine.ray
from engine.cli import main
from engine.errors import ConfigError
from engine.jobs.parts import schema

import ray  # isort: skip

# Ray warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
# Seconds in which a job gets on, on a busy machine.
_PATIENCE = 900


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, long_run: bool) -> Path:
    """Small pictures, 1 % of them broken, and rows that have no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    rng, count = np.random.default_rng(0), 1000 if long_run else 100
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{number}.png")
    for number in range(3, count, 100):
        (folder / f"{number}.png").write_bytes(b"broken")
    path = folder / "manifest.csv"
    names = [*(f"{folder}/{number}.png" for number in range(count)), f"{folder}/missing.png", ""]
    path.write_text("key,uri\n" + "".join(f"{7 * number + 1},{name}\n" for number, name in enumerate(names)))
    return path


@pytest.fixture(scope="module")
def expected(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """The rows of the local command."""
    out = tmp_path_factory.mktemp("local") / "out"
    assert (
        main(["count", "--manifest", str(manifest), "--id", "key", "--out", str(out), "--threads", "1", "--quiet"]) == 1
    )
    return rows(out)


def whole_parts(out: Path) -> list[Path]:
    """The parts that are written to their end: one may be half there where the driver was killed."""
    found = []
    for path in out.glob("*.parquet"):
        with suppress(pa.ArrowInvalid):
            pyarrow.parquet.read_metadata(path)
            found.append(path)
    return found


def rows(out: Path | list[Path]) -> dict[int, Any]:
    """Every row but its time, by id; none is there twice."""
    table = pyarrow.dataset.dataset(out, format="parquet").to_table()
    assert table.schema.equals(schema())
    found = {row["id"]: {**row, "seconds": None} for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


def command(manifest: Path, out: Path, address: str, *more: str) -> list[str]:
    words = ["count", "--manifest", str(manifest), "--id", "key", "--out", str(out), "--part-rows", "10"]
    program = "import sys; from engine.cli import run; run()"
    return [sys.executable, "-P", "-c", program, *words, "--ray", address, "--actors", "2", "--threads", "1", *more]


def workers(parents: set[int]) -> list[int]:
    """Processes of actors below these processes."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"ray::MapWorker" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(entry.name)] if parent in parents else []
        except OSError:
            continue
    return found


def raylets(address: str) -> set[int]:
    """The raylets of the cluster at ``address``, which start the workers."""
    wanted, found = f"--gcs-address={address}".encode(), set()
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if (
            line
            and os.path.basename(line[0]) == b"raylet"
            and any(wanted.replace(b"-", b"_") in x.replace(b"-", b"_") for x in line)
        ):
            found.add(int(entry.name))
    return found


def test_a_worker_and_then_the_driver_are_killed(
    cluster: str, manifest: Path, expected: dict[int, Any], tmp_path: Path, long_run: bool
) -> None:
    """Rows are unique, complete and equal to those of the local command; what was done is not done again."""
    out, log = tmp_path / "out", open(tmp_path / "log", "w")  # noqa: SIM115
    for attempt in range(5 if long_run else 1):
        before = len(whole_parts(out))
        resume = ["--resume"] if attempt else []
        with subprocess.Popen(command(manifest, out, cluster, *resume), cwd=tmp_path, stdout=log, stderr=log) as driver:
            wait_for_parts(out, before + 1, driver)
            if actors := workers(raylets(cluster)):
                os.kill(random.choice(actors), signal.SIGKILL)
            wait_for_parts(out, before + 2, driver)
            driver.kill()
    parts = whole_parts(out)
    assert parts, (tmp_path / "log").read_text()[-3000:]
    done = rows(parts)
    assert all(done[key] == expected[key] for key in done)
    times = {path: path.stat().st_mtime_ns for path in parts}
    last = subprocess.run(
        command(manifest, out, cluster, "--resume"), cwd=tmp_path, stdout=log, stderr=log, check=False
    )
    log.close()
    assert last.returncode == 1, (tmp_path / "log").read_text()[-3000:]
    assert rows(out) == expected
    # Parts that were whole are the same files.
    kept = {path: path.stat().st_mtime_ns for path in times if path.exists()}
    assert len(kept) >= len(times) - 2
    assert all(times[path] == kept[path] for path in kept)
    assert sorted(x.name for x in out.iterdir() if x.name.startswith("_")) == ["_journal"]
    again = subprocess.run(
        command(manifest, out, cluster, "--resume", "--seed", "1"),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert again.returncode == 2
    assert b"seed=0" in again.stderr
    # It is done, and says so no longer once a part was taken away.
    part = next(out.glob("*.parquet"))
    left = len(expected) - pyarrow.parquet.read_metadata(part).num_rows
    part.rename(tmp_path / "part")
    again = subprocess.run(command(manifest, out, cluster, "--resume"), cwd=tmp_path, capture_output=True, check=False)
    assert again.returncode == 2
    assert f"have {left} rows, and the job in it has {len(expected)} pictures".encode() in again.stderr


def wait_for_parts(out: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while len(whole_parts(out)) < count and driver.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_library_counts_a_data_set_and_refuses_to_take_every_cpu(
    cluster: str, manifest: Path, expected: dict[int, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ray.init(cluster, log_to_driver=False)
    try:
        some = [row for row in expected.values() if row["id"] < 7 * 20][:20] + list(expected.values())[-2:]
        table = pa.table(
            {"key": [row["id"] for row in some], "file": [row["uri"] for row in some], "more": ["x"] * len(some)}
        )
        ds = ray.data.from_arrow(table)
        with pytest.raises(ConfigError, match="4 actors of 1 CPUs would leave fewer than 1 of the cluster's 4 CPUs"):
            engine.ray.count_dataset(ds, column="file", id="key", concurrency=(1, 4))
        with pytest.raises(ConfigError, match="no column 'uri', but key, file, more"):
            engine.ray.count_dataset(ds, id="key")
        counted = engine.ray.count_dataset(ds, column="file", id="key", counter={"device": "cpu"})
        found = {row["id"]: {**row, "seconds": None} for row in counted.take_all()}
        assert set(found) == {row["id"] for row in some}
        for row in some:
            assert {
                name: found[row["id"]][name] for name in ("uri", "count", "low", "high", "error", "model", "width")
            } == {name: row[name] for name in ("uri", "count", "low", "high", "error", "model", "width")}
            assert len(found[row["id"]]["points"] or ()) == (row["count"] or 0)
    finally:
        ray.shutdown()


def test_ray_reports_nothing_to_its_makers() -> None:
    """Not even where the environment says nothing."""
    program = "import engine.ray; from ray._common.usage import usage_lib; print(usage_lib.usage_stats_enabled())"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_USAGE_STATS_ENABLED"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "False"
