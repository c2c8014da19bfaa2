"""Parquet parts that a job goes on with: those that it has written, and no others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from job_rows import fill, parts, read, row

from engine.errors import ConfigError
from engine.jobs.journal import Journal
from engine.jobs.parts import arrow_table


def stopped(folder: Path, end: int) -> None:
    """Parts of five rows, and one of the rest."""
    with pytest.raises(KeyboardInterrupt):
        fill(folder, 0, end, stop=True)


def refused(folder: Path, message: str) -> None:
    """Going on is refused, and nothing is touched."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ConfigError, match=message):
        parts(folder, resume=True)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize(("moved", "named"), [([0], "00000"), ([1], "00001"), ([2], "00002"), ([0, 1, 2], "00000")])
def test_parts_that_were_moved_away_are_missed(tmp_path: Path, moved: list[int], named: str, is_done: bool) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if is_done:
        fill(folder, 0, 12)
    else:
        stopped(folder, 12)
    for part in moved:
        (folder / f"part-{part:05}.parquet").rename(elsewhere / f"part-{part:05}.parquet")
    more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
    refused(folder, f"lacks part-{named}.parquet{more}, which the job in it has written; put all its parts back")
    for file in elsewhere.iterdir():
        file.rename(folder / file.name)
    with parts(folder, resume=True) as job:
        assert (job.done, job.is_complete) == (12, is_done)
    assert read(folder) == list(range(12))


def test_parts_that_were_moved_away_after_a_kill_are_missed(tmp_path: Path) -> None:
    """The rows of the third part are in the journal; the first two parts alone are."""
    folder = tmp_path / "out"
    job = parts(folder)
    for number in range(12):
        job.add(row(number))
    os.close(job._journal._file)
    (folder / "part-00001.parquet").rename(tmp_path / "part-00001.parquet")
    refused(folder, "lacks part-00001.parquet, which")
    (folder / "part-00000.parquet").rename(tmp_path / "part-00000.parquet")
    refused(folder, "lacks part-00000.parquet and 1 more, which")


@pytest.mark.parametrize("name", ["part-00003.parquet", "part-00004.parquet", "part-00000 (copy).parquet"])
@pytest.mark.parametrize("is_done", [False, True])
def test_parts_of_something_else_are_refused(tmp_path: Path, name: str, is_done: bool) -> None:
    folder = tmp_path / "out"
    if is_done:
        fill(folder, 0, 12)
    else:
        stopped(folder, 12)
    pq.write_table(arrow_table([row(12)], "abc"), folder / name)
    refused(folder, f"has {re.escape(name)}, which the job in it has not written; move it elsewhere")


def test_a_part_is_not_taken_for_that_of_the_journal_unless_it_has_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    job = parts(folder)
    for number in range(7):
        job.add(row(number))
    os.close(job._journal._file)
    pq.write_table(arrow_table([row(5), row(7)], "abc"), folder / "part-00001.parquet")
    refused(folder, "has part-00001.parquet, which the job in it has not written")
    pq.write_table(arrow_table([row(5), row(6)], "abc"), folder / "part-00001.parquet")
    fill(folder, 7, 9, resume=True)
    assert read(folder) == list(range(9))


def test_parts_that_were_exchanged_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    stopped(folder, 12)
    pq.write_table(arrow_table([row(1)], "abc"), folder / "part-00001.parquet")
    refused(folder, "have 8 rows, and the job in it has written 12; put its own parts back")
    (folder / "part-00001.parquet").write_bytes(b"PAR1")
    refused(folder, r"part-00001\.parquet cannot be read as Parquet")


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_signal_between_the_journal_and_its_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folder, append = tmp_path / "out", Journal.append

    def interrupted(self: Journal, data: dict[str, Any]) -> None:
        append(self, data)
        if data.get("id") == 5 + number:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "append", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(folder, 0, 20)
    monkeypatch.undo()
    fill(folder, 6 + number, 12, resume=True)
    assert read(folder) == list(range(12))
