"""Parquet parts: one schema, every row once, whatever ends the process."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from job_rows import HEAD, fill, parts, read, row

from engine.errors import ConfigError
from engine.jobs.parts import Parts, arrow_table, schema


def test_rows_of_every_kind_have_one_schema() -> None:
    table = arrow_table([row(2), row(3)], "abc")
    assert table.schema.equals(schema())
    error, found = table.to_pylist()
    nothing = dict.fromkeys(["count", "low", "high", "points", "width", "height", "zones", "lines", "warnings"])
    assert error == nothing | {"id": 2, "uri": "2.jpg", "error": "damaged", "model": "abc", "seconds": 0.5}
    points = found.pop("points")
    assert found == {
        "id": 3,
        "uri": "3.jpg",
        "count": 3,
        "low": 3,
        "high": 5,
        "width": 64,
        "height": 48,
        "error": None,
        "zones": [{"name": "gate", "count": 3, "low": 3, "high": 5}],
        "lines": [{"name": "door", "left": 3, "right": 0}],
        "warnings": ["dark"],
        "model": "abc",
        "seconds": 0.25,
    }
    assert [round(point["y"], 5) for point in points] == [0.1, 0.3, 0.5]
    assert np.float32(points[2]["x"]) == np.float32(0.4)
    assert np.float32(points[0]["score"]) == np.float32(0.7)


@pytest.mark.parametrize("rows", [0, 1, 5, 12])
def test_parts_of_a_whole_job(tmp_path: Path, rows: int) -> None:
    fill(tmp_path / "out", 0, rows)
    files = sorted((tmp_path / "out").glob("*"))
    assert [x.name for x in files if x.suffix] == [f"part-{i:05}.parquet" for i in range(-(-rows // 5))]
    assert [x.name for x in files if not x.suffix] == ["_journal"]
    if rows:
        assert read(tmp_path / "out") == list(range(rows))
    with parts(tmp_path / "out", resume=True) as job:
        assert (job.is_complete, job.done) == (True, rows)


def test_stopped_and_resumed_again_and_again(tmp_path: Path) -> None:
    folder, start = tmp_path / "out", 0
    for end in (0, 3, 3, 5, 6, 17, 20):
        with pytest.raises(KeyboardInterrupt):
            fill(folder, start, end, resume=start > 0 or folder.exists(), stop=True)
        start = end
        if end:
            assert read(folder) == list(range(end))
    fill(folder, start, 23, resume=True)
    assert read(folder) == list(range(23))


def test_another_job_or_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        fill(folder, 0, 3, stop=True)
    with pytest.raises(ConfigError, match=r"steps=2.*steps=3"):
        parts(folder, resume=True, head=HEAD | {"steps": 3})
    with pytest.raises(ConfigError, match="not empty; add --resume"):
        parts(folder)
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        parts(tmp_path / "file")
    with pytest.raises(ConfigError, match="give a new folder"):
        parts(tmp_path / "other")
    with pytest.raises(ConfigError, match="no job to resume"):
        parts(tmp_path / "other", resume=True)
    with pytest.raises(ConfigError, match="does not exist"):
        parts(tmp_path / "a" / "b")
    assert read(folder) == [0, 1, 2]


def test_killed_between_a_part_and_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is there, and its rows are still in the journal: they are no second part."""
    folder = tmp_path / "out"
    monkeypatch.setattr(Parts, "_begin_part", _raise)
    with pytest.raises(ZeroDivisionError):
        Parts(folder, HEAD, False)
    monkeypatch.undo()
    with parts(folder, resume=True) as job:
        assert job.done == 0
        for number in range(4):
            job.add(row(number))
        monkeypatch.setattr(Parts, "_begin_part", _raise)
        with pytest.raises(ZeroDivisionError):
            job.add(row(4))
    monkeypatch.undo()
    assert read(folder) == list(range(5))
    fill(folder, 5, 7, resume=True)
    assert read(folder) == list(range(7))


def _raise(_: Parts) -> None:
    raise ZeroDivisionError


def test_a_full_disk_keeps_the_rows(tmp_path: Path) -> None:
    folder, soft_hard = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    job = parts(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, soft_hard[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            _fill_up(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
    with parts(folder, resume=True) as resumed:
        done = resumed.done
        assert done > 1
    fill(folder, done, done + 3, resume=True)
    assert read(folder) == list(range(done + 3))
    assert not list(folder.glob(".*"))


def _fill_up(job: Parts) -> None:
    with job:
        for number in range(1000):
            job.add(row(number))


_WRITER = """
import sys
sys.path[:0] = [sys.argv[1]]
from engine.jobs.parts import Parts
from job_rows import HEAD, row
with Parts(sys.argv[2], HEAD, resume=True, part_rows=7) as job:
    print(job.done, flush=True)
    for number in range(job.done, 10**9):
        job.add(row(number))
"""


def test_killed_at_ten_moments_random_in_time(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Also while a part is written; each time every row is there once."""
    folder, before = tmp_path / "out", -1
    rng = np.random.default_rng(0)
    command = [sys.executable, "-P", "-c", _WRITER, str(request.path.parents[1]), str(folder)]
    for _ in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            done = int(process.stdout.readline())
            assert done > before
            time.sleep(rng.uniform(0.05, 0.5))
            process.send_signal(signal.SIGKILL)
        before = done
    with parts(folder, resume=True) as job:
        total = job.done
    assert total > before
    assert read(folder) == list(range(total))
    assert sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet")) == total
