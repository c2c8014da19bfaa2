"""The command line with a stand-in counter: what it reads, writes and returns."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import threading
from pathlib import Path

import pytest
from cameras import PATIENCE
from stand_in_counter import StandInCounter, StandInResult, crowd

from engine.backends.cuda.driver import CudaOutOfMemoryError
from engine.cli import main
from engine.errors import BackendError, ConfigError, NotFiniteError


def test_throughput_counts_several_pictures_at_once_and_reports_in_order(pictures, capsys, monkeypatch):
    (pictures / "bad.png").write_bytes(b"bad")
    together, count = threading.Barrier(3), StandInCounter.count

    def meet(self, img):
        # Without three at a time the barrier breaks.
        together.wait(timeout=PATIENCE)
        return count(self, img)

    monkeypatch.setattr(StandInCounter, "count", meet)
    monkeypatch.setattr(StandInCounter, "parallel", 3, raising=False)
    paths = [pictures / name for name in ("a.jpg", "b.PNG", "deep/a.jpg", "b.PNG", "bad.png", "a.jpg")]
    assert crowd("count", *paths, "--performance", "throughput") == 1
    out, err = capsys.readouterr()
    assert [line.split(": ")[1] for line in out.splitlines()] == [
        "1 person (0-3)", "2 people (1-4)", "3 people (2-5)", "2 people (1-4)", "1 person (0-3)",
    ]  # fmt: skip
    assert "bad.png: not a picture" in err


def test_one_line_per_picture(pictures, capsys):
    assert crowd("count", pictures) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{pictures / 'a.jpg'}: 1 person (0-3)",
        f"{pictures / 'b.PNG'}: 2 people (1-4)",
        f"{pictures / 'deep/a.jpg'}: 3 people (2-5)",
    ]
    assert err == "crowd: 3 pictures counted, 6 people in them\n"
    assert StandInCounter.last.closed


def test_options_reach_the_counter(pictures):
    numbers = ("--steps", 4, "--threads", 2, "--seed", 7, "--samples", 3)
    names = ("--model", "own", "--device", "cpu", "--backend", "torch", "--compute-type", "bfloat16")
    assert crowd("count", pictures, *numbers, *names, "--performance", "latency") == 0
    expected = {"model": "own", "device": "cpu", "backend": "torch", "compute_type": "bfloat16"}
    expected |= {"steps": 4, "samples": 3, "seed": 7, "cpu_threads": 2, "performance": "latency"}
    assert StandInCounter.last.options == expected


def test_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    assert crowd("count", "-") == 0
    assert capsys.readouterr().out == "-: 5 people (4-7)\n"


def test_json_and_csv_on_stdout(pictures, capsys):
    assert crowd("count", pictures / "a.jpg", pictures / "b.PNG", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [
        {"file": str(pictures / "a.jpg"), **StandInResult(1, (0, 3)).to_dict()},
        {"file": str(pictures / "b.PNG"), **StandInResult(2, (1, 4)).to_dict()},
    ]
    assert crowd("count", pictures / "a.jpg", pictures / "b.PNG", "--jsonl") == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert crowd("count", pictures / "b.PNG", "--csv") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    expected = {"count": "2", "low": "1", "high": "4", "width": "64", "height": "48", "error": ""}
    assert row == {"file": str(pictures / "b.PNG"), **expected}


def test_a_picture_that_cannot_be_read_is_a_row_with_its_error(tmp_path, capsys):
    (tmp_path / "x.jpg").write_bytes(b"bad")
    (tmp_path / "y.jpg").write_bytes(b"1")
    assert crowd("count", tmp_path, "--json", "--csv", tmp_path / "t.csv") == 1
    first, second = json.loads(capsys.readouterr().out)
    assert first == {"file": str(tmp_path / "x.jpg"), "count": None, "error": "not a picture"}
    assert (second["count"], "error" in second) == (1, False)
    first, second = csv.DictReader((tmp_path / "t.csv").read_text().splitlines())
    assert {name: cell for name, cell in first.items() if cell} == {
        "file": str(tmp_path / "x.jpg"),
        "error": "not a picture",
    }
    assert (second["count"], second["error"]) == ("1", "")


def test_result_files_are_whole_and_leave_nothing_beside_them(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    assert crowd("count", pictures, "--json", out / "r.json", "--csv", out / "r.csv", "--quiet") == 0
    assert [row["count"] for row in json.loads((out / "r.json").read_text())] == [1, 2, 3]
    assert len((out / "r.csv").read_bytes().splitlines()) == 4
    assert sorted(p.name for p in out.iterdir()) == ["r.csv", "r.json"]
    assert capsys.readouterr() == ("", "")


def test_an_interrupt_keeps_the_finished_rows_and_has_no_traceback(pictures, tmp_path, capsys):
    (pictures / "c.jpg").write_bytes(b"stop")
    (tmp_path / "r.json").write_text("old")
    assert crowd("count", pictures, "--json", tmp_path / "r.json", "--quiet") == 130
    assert [Path(row["file"]).name for row in json.loads((tmp_path / "r.json").read_text())] == ["a.jpg", "b.PNG"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures", "r.json", "r.json.journal"]
    assert capsys.readouterr().err == "crowd: interrupted\n"
    assert StandInCounter.last.closed


def test_an_interrupt_before_the_first_row_keeps_the_old_file(pictures, tmp_path):
    (pictures / "a.jpg").write_bytes(b"stop")
    (tmp_path / "r.json").write_text("old")
    assert crowd("count", pictures, "--json", tmp_path / "r.json", "--quiet") == 130
    assert (tmp_path / "r.json").read_text() == "old"


def test_an_error_that_comes_of_an_interrupt_is_one(pictures, capsys, monkeypatch):
    """As when Ctrl-C comes just before a lock is taken, which a handler then releases."""

    def count(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            threading.RLock().release()

    monkeypatch.setattr(StandInCounter, "count", count)
    assert crowd("count", pictures) == 130
    assert capsys.readouterr().err == "crowd: interrupted\n"


def test_an_error_of_the_program_keeps_its_traceback(pictures, monkeypatch):
    def count(*_: object, **__: object) -> None:
        raise RuntimeError("not expected")

    monkeypatch.setattr(StandInCounter, "count", count)
    with pytest.raises(RuntimeError, match="not expected"):
        crowd("count", pictures)


def test_unreadable_inputs_are_named_and_the_rest_is_counted(pictures, tmp_path, capsys):
    (pictures / "b.PNG").write_bytes(b"bad")
    (tmp_path / "empty").mkdir()
    missing, pattern = tmp_path / "missing.jpg", tmp_path / "*.gif"
    assert crowd("count", missing, tmp_path / "empty", pattern, pictures) == 1
    out, err = capsys.readouterr()
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == ["1 person (0-3)", "3 people (2-5)"]
    lines = err.splitlines()
    assert f"crowd: '{missing}' does not exist" in lines
    assert f"crowd: {pattern}: no file matches this pattern" in lines
    assert f"crowd: {pictures / 'b.PNG'}: not a picture" in lines
    assert any(line.startswith(f"crowd: {tmp_path / 'empty'}: no pictures in this folder") for line in lines)


def test_a_file_that_is_not_there_is_a_row_with_its_error(pictures, tmp_path):
    table, missing = tmp_path / "o.csv", tmp_path / "missing.jpg"
    assert crowd("count", pictures / "a.jpg", missing, "--csv", table) == 1
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["file"], row["count"]) for row in rows] == [(str(pictures / "a.jpg"), "1"), (str(missing), "")]
    assert "does not exist" in rows[1]["error"]


@pytest.mark.parametrize("kind", [NotFiniteError("not finite"), CudaOutOfMemoryError("cuMemAlloc", 2, "OUT", "", None)])
def test_what_fails_for_one_picture_alone_costs_no_other(kind, pictures, capsys, monkeypatch):
    count = StandInCounter.count
    (pictures / "b.PNG").write_bytes(b"odd")

    def failing(self, img, **options):
        if str(img).endswith("b.PNG"):
            raise kind
        return count(self, img, **options)

    monkeypatch.setattr(StandInCounter, "count", failing)
    assert crowd("count", pictures) == 1
    out, err = capsys.readouterr()
    assert [line.rpartition(": ")[2] for line in out.splitlines()] == ["1 person (0-3)", "3 people (2-5)"]
    assert f"crowd: {pictures / 'b.PNG'}: {kind}" in err


def test_nothing_to_count_fails(tmp_path):
    assert crowd("count", tmp_path / "missing.jpg") == 1


def test_warnings_go_to_stderr_unless_quiet(tmp_path, capsys):
    (tmp_path / "x.jpg").write_bytes(b"dark")
    assert crowd("count", tmp_path / "x.jpg") == 0
    assert capsys.readouterr().err == f"crowd: {tmp_path / 'x.jpg'}: warning: it is dark\n"
    assert crowd("count", tmp_path / "x.jpg", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_names_in_a_csv_file_are_those_of_the_files(tmp_path, monkeypatch):
    """Whatever the terminal can show; bytes that are no text are escaped."""
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    names = ["\u5317.png", os.fsdecode(b"\xff.png")]
    for name in names:
        (tmp_path / name).write_bytes(b"1")
    assert crowd("count", *(tmp_path / name for name in names), "--csv", tmp_path / "o.csv", "--quiet") == 0
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()))
    assert [Path(row["file"]).name for row in rows] == ["\u5317.png", "\\udcff.png"]


@pytest.mark.parametrize("arguments", [[], ["stroll"], ["count", "x.jpg", "--steps", "few"]])
def test_what_argparse_refuses_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: crowd" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(ConfigError("device"), 2), (BackendError("no GPU"), 1)])
def test_errors_of_the_counter_become_one_line(error, status, pictures, capsys):
    def broken(**options):
        raise error

    assert main(["count", str(pictures)], counter_factory=broken) == status
    assert capsys.readouterr() == ("", f"crowd: {error}\n")


def test_a_table_for_spreadsheets(tmp_path, monkeypatch):
    """No file name is a formula, no two columns have one name, and Excel knows its letters."""
    monkeypatch.chdir(tmp_path)
    for name in ("=1+1.jpg", "größe.jpg", "a;=1.jpg"):
        Path(name).write_bytes(b"x")
    assert crowd("count", ".", "--csv", "out.csv", "--csv-bom") == 0
    data = Path("out.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    assert [row["file"] for row in rows] == ["./=1+1.jpg", "a;=1.jpg", "größe.jpg"]
    assert all(Path(row["file"]).is_file() for row in rows)
    assert b'"a;=1.jpg"' in data
    assert crowd("count", ".", "--csv", "out.csv") == 0
    assert Path("out.csv").read_bytes().startswith(b"file,")


def test_how_pictures_are_read_reaches_the_counter(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        StandInCounter, "count", lambda self, img, **reading: asked.append(reading) or StandInResult(0, (0, 1))
    )
    (tmp_path / "a.tif").write_bytes(b"x")
    for options in ([], ["--page", 2], ["--no-exif-orientation"], ["--page", 0, "--no-exif-orientation"]):
        assert crowd("count", tmp_path / "a.tif", *options) == 0
    assert asked == [{}, {"page": 2}, {"exif_orientation": False}, {"page": 0, "exif_orientation": False}]
