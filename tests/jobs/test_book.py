"""Tables that are whole at every moment, with the journal beside them."""

from __future__ import annotations

import csv
import io
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from engine.jobs.book import Book
from engine.jobs.tables import CsvTable, JsonLinesTable, JsonTable, Table, TableFile, TableStream
from engine.zones.layout import ZoneLayout

HEAD = {"model": "abc"}
LAYOUT = ZoneLayout.from_dict({"zones": {"gate": [[0, 0], [9, 0], [9, 9]]}, "lines": {"door": [[0, 0], [9, 9]]}})


def row(number: int, people: int | None = 3) -> dict[str, Any]:
    if people is None:
        return {"file": f"{number}.jpg", "count": None, "error": "it is, indeed, damaged"}
    found = {"count": people, "interval": [people - 1, people + 2], "image_size": [64, 48]}
    zones = {"zones": {"gate": 2}, "zone_intervals": {"gate": [1, 3]}, "lines": {"door": [1, 2]}}
    return {"file": f"{number}.jpg", **found, **zones}


def read(path: Path) -> list[str]:
    """The files that have rows, of a table that must be whole."""
    text = path.read_text()
    if path.suffix == ".json":
        rows = json.loads(text)
    elif path.suffix == ".jsonl":
        assert not text or text.endswith("\n")
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = list(csv.DictReader(io.StringIO(text)))
    return [found["file"] for found in rows]


TABLES: dict[str, type[Table]] = {".csv": CsvTable, ".json": JsonTable, ".jsonl": JsonLinesTable}


def book(folder: Path, resume: bool = False, head: dict[str, Any] = HEAD) -> Book:
    return Book({str(folder / f"t{suffix}"): table() for suffix, table in TABLES.items()}, head, resume)


def stop(output: Any, rows: int) -> None:
    """As Ctrl-C does after so many rows."""
    with pytest.raises(KeyboardInterrupt):
        fill(output, rows)


def fill(output: Any, rows: int = 1000) -> None:
    with output:
        for number in range(rows):
            output.add(row(number))
        raise KeyboardInterrupt


def test_a_job_of_no_rows_leaves_tables_of_none(tmp_path: Path) -> None:
    with book(tmp_path) as job:
        job.finish()
    assert {path.name for path in tmp_path.iterdir()} == {f"t{suffix}" for suffix in TABLES}
    assert all(read(path) == [] for path in tmp_path.iterdir())
    assert (tmp_path / "t.csv").read_text().startswith("file,count,low,high")


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("suffix", TABLES)
def test_a_table_is_whole_after_every_row_and_has_its_name_at_the_end(tmp_path: Path, suffix: str, rows: int) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_text("old")
    with TableFile(path, TABLES[suffix]()) as table:
        for number in range(rows):
            table.add(row(number, None if number == 1 else 3))
            (part,) = (x for x in tmp_path.iterdir() if x != path)
            whole = tmp_path / f"copy{suffix}"
            whole.write_bytes(part.read_bytes())
            assert read(whole) == [f"{i}.jpg" for i in range(number + 1)]
            whole.unlink()
        assert path.read_text() == "old"
    assert read(path) == [f"{i}.jpg" for i in range(rows)]
    assert list(tmp_path.iterdir()) == [path]


def test_the_columns_of_a_table() -> None:
    text = io.StringIO()
    with TableStream(text, CsvTable(LAYOUT)) as table:
        table.add(row(1))
        table.add(row(2, None))
    first, second = csv.DictReader(io.StringIO(text.getvalue()))
    assert first == {
        "file": "1.jpg",
        "count": "3",
        "low": "2",
        "high": "5",
        "width": "64",
        "height": "48",
        "zone.gate": "2",
        "zone.gate.low": "1",
        "zone.gate.high": "3",
        "line.door.left": "1",
        "line.door.right": "2",
        "error": "",
    }
    assert {name for name, cell in second.items() if cell} == {"file", "error"}
    assert second["error"] == "it is, indeed, damaged"


def test_an_error_keeps_the_rows_and_without_rows_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), TableFile(path, JsonTable()):
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    stop(TableFile(path, JsonTable()), 1)
    assert read(path) == ["0.jpg"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "t.csv")
    with TableFile(tmp_path / "link.csv", CsvTable()) as table:
        table.add(row(1))
    assert (tmp_path / "link.csv").is_symlink()
    assert read(tmp_path / "real" / "t.csv") == ["1.jpg"]


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("limit", range(900, 1100, 9))
def test_a_full_disk_leaves_whole_tables(tmp_path: Path, suffix: str, limit: int) -> None:
    path = tmp_path / f"t{suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    table = TableFile(path, TABLES[suffix]())
    try:
        with pytest.raises(OSError, match="too large"):
            fill(table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read(path) == [f"{i}.jpg" for i in range(table.rows)]
    assert 2 < table.rows < 100


def test_a_job_that_is_stopped_has_its_rows_and_goes_on(tmp_path: Path) -> None:
    stop(book(tmp_path), 4)
    for suffix in TABLES:
        assert read(tmp_path / f"t{suffix}") == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert (tmp_path / "t.csv.journal").exists()
    with book(tmp_path, resume=True) as second:
        assert second.rows == 4
        assert [kept["file"] for kept in second.kept()] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
        second.add(row(4))
        second.finish()
    for suffix in TABLES:
        assert read(tmp_path / f"t{suffix}") == [f"{i}.jpg" for i in range(5)]
    assert sorted(x.name for x in tmp_path.iterdir()) == ["t.csv", "t.json", "t.jsonl"]


def test_other_tables_are_made_of_the_same_journal(tmp_path: Path) -> None:
    stop(Book({str(tmp_path / "a.json"): JsonTable()}, HEAD, False), 1)
    tables = {str(tmp_path / "b.csv"): CsvTable(), str(tmp_path / "a.json"): JsonTable()}
    with Book(tables, HEAD, resume=True) as second:
        second.finish()
    assert read(tmp_path / "b.csv") == read(tmp_path / "a.json") == ["0.jpg"]


def test_a_signal_between_journal_and_table_loses_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = TableFile.add

    def interrupted(self: TableFile, data: dict[str, Any]) -> None:
        if data["file"] == "2.jpg" and self._target.suffix == ".json":
            monkeypatch.setattr(TableFile, "add", add)
            raise KeyboardInterrupt
        add(self, data)

    monkeypatch.setattr(TableFile, "add", interrupted)
    stop(book(tmp_path), 4)
    for suffix in TABLES:
        assert read(tmp_path / f"t{suffix}") == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_disk_that_fills_while_rows_are_taken_over_keeps_the_old_tables(tmp_path: Path) -> None:
    stop(book(tmp_path), 9)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            book(tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_another_model_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    stop(book(tmp_path), 1)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=r"model=abc.*model=other"):
        book(tmp_path, resume=True, head={"model": "other"})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
