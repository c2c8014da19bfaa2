"""``crowd count --manifest``: what comes through a pipe, and what is refused before anything is counted."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from stand_in_counter import crowd


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Pictures of 1 to 3 people."""
    paths = [tmp_path / f"{number}.jpg" for number in (1, 2, 3)]
    for number, path in enumerate(paths, 1):
        path.write_bytes(b"x" * number)
    return [str(path) for path in paths]


@pytest.fixture
def piped() -> Iterator[Any]:
    """The name of a pipe with a text, as ``<(...)`` of a shell gives it."""
    open_files = []

    def pipe(text: str) -> str:
        read, write = os.pipe()
        open_files.append(read)
        with open(write, "w") as stream:
            stream.write(text)
        return f"/dev/fd/{read}"

    yield pipe
    for file in open_files:
        os.close(file)


def test_a_pipe_to_a_table(files: list[str], tmp_path: Path, piped: Any) -> None:
    assert crowd("count", "--manifest", piped("\n".join(files)), "--csv", tmp_path / "t.csv") == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [(row["file"], row["count"]) for row in rows] == list(zip(files, "123", strict=True))


def test_a_pipe_to_parts_that_go_on_with_the_same_addresses(
    files: list[str], tmp_path: Path, piped: Any, capsys: Any
) -> None:
    text, out = "\n".join(files), tmp_path / "out"
    Path(files[2]).write_bytes(b"stop")
    assert crowd("count", "--manifest", piped(text), "--out", out) == 130
    Path(files[2]).write_bytes(b"xxx")
    assert crowd("count", "--manifest", piped(text + "\nanother.jpg"), "--out", out, "--resume") == 2
    assert "is of a job with pictures=" in capsys.readouterr().err
    assert crowd("count", "--manifest", piped(text), "--out", out, "--resume") == 0
    table = pyarrow.dataset.dataset(out, format="parquet").to_table().to_pydict()
    assert (table["uri"], table["count"]) == (files, [1, 2, 3])


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]))


def test_what_is_wrong_in_a_manifest_is_told_before_anything_is_counted(
    files: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that names standard input waited for it; other lines ended the job in its middle, with a traceback."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"never to be counted")))
    many = [f"{number},{files[0]}" for number in range(5000)]
    _write(tmp_path / "id.csv", ["key,uri", *many, f"{2**63},{files[1]}"])
    _write(tmp_path / "long.csv", ["key,uri", *many, f"1,{'x' * 140_000}"])
    _write(tmp_path / "dash.txt", [*files, "-"])
    (tmp_path / "book.xlsx").write_bytes(b"PK\3\4\n\0\n")
    (tmp_path / "utf16.txt").write_text("\n".join(files), "utf-16")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1PAR1")
    pictures = pa.array([{"bytes": b"x", "path": files[0]}])
    pq.write_table(pa.table({"image": pictures}), tmp_path / "pictures.parquet")
    for words, message in (
        ("id.csv --id key", "line 5002 of {}/id.csv has the id '9223372036854775808'"),
        ("long.csv", "line 5002 of {}/long.csv cannot be read as CSV"),
        ("dash.txt", "line 4 of {}/dash.txt is -, standard input"),
        ("book.xlsx", "line 2 of {}/book.xlsx has a zero byte"),
        ("utf16.txt", "line 1 of {}/utf16.txt has a zero byte"),
        ("broken.parquet", "{}/broken.parquet cannot be read as Parquet"),
        ("pictures.parquet", "column 'image' of {}/pictures.parquet is of the type struct<"),
    ):
        name, *more = words.split()
        for output in (["--out", tmp_path / "out"], ["--csv", tmp_path / "t.csv"], []):
            assert crowd("count", "--manifest", tmp_path / name, *more, *output) == 2
            told = capsys.readouterr()
            assert message.format(tmp_path) in told.err
            assert told.out == ""
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "t.csv").exists()


def test_a_pipe_that_a_manifest_lists_is_not_waited_for(files: list[str], tmp_path: Path, capsys: Any) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    _write(tmp_path / "m.txt", [files[0], str(tmp_path / "pipe.jpg"), "/dev/zero", str(tmp_path), files[1]])
    assert crowd("count", "--manifest", tmp_path / "m.txt", "--csv", tmp_path / "t.csv") == 1
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [row["count"] for row in rows] == ["1", "", "", "", "2"]
    assert ["is a device or pipe" in row["error"] for row in rows] == [False, True, True, False, False]
