"""The journal: what it keeps whatever ends the process, and what it refuses to go on with."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import ConfigError, EngineError
from engine.jobs.journal import Journal

HEAD = {"model": "abc", "steps": 2}


def write(path: Path, *numbers: int) -> None:
    with Journal(path, HEAD) as journal:
        for number in numbers:
            journal.append({"id": number})


def fill(journal: Journal) -> None:
    for number in range(1000):
        journal.append({"id": number})


def read(path: Path) -> list[int]:
    with Journal(path, HEAD, resume=True) as journal:
        rows = [row["id"] for row in journal.rows()]
        assert journal.count == len(rows)
        return rows


def test_rows_are_in_the_file_at_once_behind_the_head(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, HEAD) as journal:
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"job": HEAD}]
        for number in range(3):
            journal.append({"id": number})
            assert [json.loads(line) for line in path.read_text().splitlines()][1:] == list(journal.rows())
        assert journal.count == 3
    assert read(path) == [0, 1, 2]


@pytest.mark.parametrize(("seconds", "synced"), [(-1.0, 3), (3600.0, 0)])
def test_the_disk_takes_the_rows_of_a_while_at_a_time(
    seconds: float, synced: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[int] = []
    with Journal(tmp_path / "journal", HEAD) as journal:
        monkeypatch.setattr("engine.jobs.journal._SYNC_S", seconds)
        monkeypatch.setattr(os, "fsync", files.append)
        for number in range(3):
            journal.append({"id": number})
        assert len(files) == synced


def test_every_cut_keeps_the_whole_lines_before_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, 1, 22, 333)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        expected = [1, 22, 333][: max(0, sum(end <= size for end in ends) - 1)]
        with Journal(path, HEAD, resume=True) as journal:
            assert [row["id"] for row in journal.rows()] == expected
            journal.append({"id": 4444})
        assert read(path) == [*expected, 4444]


@pytest.mark.parametrize("tail", [b"\0" * 100, b'{"id": 4', b'{"id": \xff}\n', b"[1]\n", b'{"job": {}}\n'])
def test_what_a_power_cut_leaves_at_the_end_is_no_row(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "journal"
    write(path, 1, 2)
    path.write_bytes(path.read_bytes() + tail)
    assert read(path) == [1, 2]


@pytest.mark.parametrize("line", [b"\0\n", b'{"id": \n', b"7\n", b'{"job": {"model": "abc", "steps": 2}}\n'])
def test_damage_before_the_end_is_an_error(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal"
    write(path, 1, 2)
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + line + second)
    before = path.read_bytes()
    with pytest.raises(EngineError, match="line 3 is damaged"):
        read(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("head", "named"), [({"steps": 3}, "steps=2.*steps=3"), ({"more": "a"}, "more=None.*more=a")])
def test_another_job_is_refused(tmp_path: Path, head: dict[str, object], named: str) -> None:
    path = tmp_path / "journal"
    write(path, 1)
    with pytest.raises(ConfigError, match=f"{named}.*without --resume"):
        Journal(path, HEAD | head, resume=True)
    assert read(path) == [1]


def test_starting_anew_sets_the_old_rows_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, 1, 2)
    old = path.read_bytes()
    with Journal(path, HEAD) as journal:
        assert journal.set_aside == tmp_path / "journal.old"
        assert list(journal.rows()) == []
    assert (tmp_path / "journal.old").read_bytes() == old


def test_rows_that_were_set_aside_stay_whatever_runs_come(tmp_path: Path) -> None:
    path, old = tmp_path / "journal", []
    for number, name in enumerate(["journal.old", "journal.old.2", "journal.old.3", "journal.old.4"]):
        write(path, number)
        old.append((tmp_path / name, path.read_bytes()))
        with Journal(path, HEAD) as journal:
            assert journal.set_aside == tmp_path / name
    assert [(name, name.read_bytes()) for name, _ in old] == old
    (tmp_path / "journal.old.2").unlink()
    write(path, 9)
    with Journal(path, HEAD) as journal:
        assert journal.set_aside == tmp_path / "journal.old.2"


@pytest.mark.parametrize("size", [0, 1, 20, None])
@pytest.mark.parametrize("tail", [b"", b'{"id": 1'])
def test_a_journal_without_a_row_is_not_set_aside(tmp_path: Path, size: int | None, tail: bytes) -> None:
    path = tmp_path / "journal"
    write(path)
    path.write_bytes(path.read_bytes()[:size] + (b"" if size is not None else tail))
    with Journal(path, {"another": "job"}) as journal:
        assert journal.set_aside is None
        journal.append({"id": 7})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"job": {"another": "job"}}, {"id": 7}]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"job": {}}\n\0\0\n', b'{"job": {}}\n{"id":\n{}\n'])
def test_what_is_no_journal_or_damaged_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with Journal(path, HEAD):
        assert (tmp_path / "journal.old").read_bytes() == content


def test_two_jobs_on_one_journal_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, HEAD) as journal:
        journal.append({"id": 1})
        for resume in (True, False):
            with pytest.raises(ConfigError, match="another process is writing"):
                Journal(path, HEAD, resume=resume)
    assert read(path) == [1]


def test_a_full_disk_takes_back_the_row_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path, HEAD) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                fill(journal)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        count = journal.count
        assert 20 < count < 200
        journal.append({"id": count})
    assert read(path) == list(range(count + 1))


def test_cleared_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, HEAD) as journal:
        journal.append({"id": 1})
        journal.clear()
        assert (journal.count, list(journal.rows())) == (0, [])
        journal.append({"id": 2})
    assert read(path) == [2]
    with Journal(path, HEAD, resume=True) as journal:
        journal.close(remove=True)
    assert not path.exists()


_WRITER = """
import sys
from engine.jobs.journal import Journal
with Journal(sys.argv[1], {}, resume=True) as journal:
    print(journal.count, flush=True)
    for number in range(journal.count, 10**9):
        journal.append({"id": number, "text": "x" * (number % 5000)})
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """Ten times; each time the rows before are there, and go on where they ended."""
    path, before = tmp_path / "journal", 0
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-P", "-c", _WRITER, path], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            count = int(process.stdout.readline())
            assert count >= before
            # Ten rows at least, whatever is cut off the last one.
            enough = os.path.getsize(path) + 50_000
            while os.path.getsize(path) < enough:
                pass
            process.kill()
        with Journal(path, {}, resume=True) as journal:
            assert [row["id"] for row in journal.rows()] == list(range(journal.count))
            assert journal.count > before
            before = journal.count
