"""``crowd eval`` with a stand-in counter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stand_in_counter import crowd


def annotate(folder: Path, numbers: tuple[int, ...]) -> None:
    """Pictures IMG_N.jpg that count as N people, with five more annotated."""
    (folder / "images").mkdir(parents=True)
    for number in numbers:
        (folder / "images" / f"IMG_{number}.jpg").write_bytes(b"x" * number)
    table = {f"IMG_{n}.jpg": [[1, 1]] * (n + 5) for n in numbers}
    (folder / "points.json").write_text(json.dumps(table))


def test_eval_prints_a_table_and_writes_rows(tmp_path, capsys):
    annotate(tmp_path / "part_A", (9, 10, 20))
    annotate(tmp_path / "part_B", (30,))
    report = tmp_path / "rows.json"
    assert crowd("eval", tmp_path, "--only-digit", 0, "--steps", 1, 2, "--json", report) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["part_A", "1", "2", "5.00"],
        ["part_B", "1", "1", "5.00"],
        ["all", "1", "3", "5.00"],
        ["part_A", "2", "2", "5.00"],
        ["part_B", "2", "1", "5.00"],
        ["all", "2", "3", "5.00"],
    ]
    rows = json.loads(report.read_text())
    assert [(r["true"], r["predicted"], r["low"], r["high"]) for r in rows[:2]] == [(15, 10, 9, 12), (25, 20, 19, 22)]


def test_eval_against_another_model_prints_the_differences(tmp_path, capsys):
    annotate(tmp_path / "data", (10, 20))
    report = tmp_path / "rows.json"
    assert crowd("eval", tmp_path / "data", "--json", report) == 0
    rows = json.loads(report.read_text())
    rows[0]["predicted"] += 3  # Two too few, of five people.
    report.write_text(json.dumps(rows))
    capsys.readouterr()
    assert crowd("eval", tmp_path / "data", "--against", report) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["data", "2", "3.50", "5.00", "+1.50", "1.50", "0", "1"]
    assert crowd("eval", tmp_path / "data", "--against", tmp_path / "none.json") == 2
    assert "none.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        ("", [4, 5, 1, 2, 3]),
        ("--split test", [4, 5]),
        ("--split train", [1, 2, 3]),
        ("--limit 3", [4, 5, 1]),
        ("--split train --limit 2", [1, 2]),
        ("--only-digit 3 --limit 1", [3]),
        ("--only-digit 3 --only-digit 4", [4, 3]),
    ],
)
def test_eval_of_a_part_of_the_pictures(options, counted, tmp_path):
    annotate(tmp_path / "data" / "train_data", (1, 2, 3))
    annotate(tmp_path / "data" / "test_data", (4, 5))
    report = tmp_path / "rows.json"
    assert crowd("eval", tmp_path / "data", *options.split(), "--json", report, "--quiet") == 0
    assert [row["predicted"] for row in json.loads(report.read_text())] == counted


def test_eval_that_is_stopped_keeps_its_rows_and_goes_on(tmp_path, capsys):
    annotate(tmp_path / "data", (10, 20, 30))
    report = tmp_path / "rows.json"
    command = ["eval", tmp_path / "data", "--steps", 1, 2, "--json", report, "--quiet"]
    assert crowd(*command) == 0
    whole, table = json.loads(report.read_text()), capsys.readouterr().out
    picture = tmp_path / "data" / "images" / "IMG_20.jpg"
    for content, status in ((b"stop", 130), (b"bad", 1)):
        picture.write_bytes(content)
        assert crowd(*command) == status
        assert [row["file"] for row in json.loads(report.read_text())] == [row["file"] for row in whole[:1]]
    assert (tmp_path / "rows.json.journal.old").exists()
    assert crowd(*command, "--resume", "--seed", 1) == 2
    picture.write_bytes(b"x" * 20)
    capsys.readouterr()
    assert crowd(*command, "--resume") == 0
    rows = json.loads(report.read_text())
    assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in whole]
    # Without the times, which are its last column.
    assert [line.split()[:-1] for line in capsys.readouterr().out.splitlines()] == [
        line.split()[:-1] for line in table.splitlines()
    ]
    assert not (tmp_path / "rows.json.journal").exists()
    assert crowd("eval", tmp_path / "data", "--resume") == 2


def test_eval_of_nothing_is_bad_usage(tmp_path, capsys):
    assert crowd("eval", tmp_path / "missing") == 2
    assert "does not exist" in capsys.readouterr().err


def test_eval_of_fewer_than_one_picture_is_bad_usage(tmp_path, capsys):
    annotate(tmp_path, (1, 2))
    assert crowd("eval", tmp_path, "--limit", "-1") == 2
    assert "--limit must be at least 1" in capsys.readouterr().err


def test_eval_does_not_count_on_one_core_each(tmp_path, capsys):
    assert crowd("eval", tmp_path, "--performance", "throughput") == 2
    assert "one by one" in capsys.readouterr().err


def test_eval_against_shows_what_is_wrong_before_it_counts(tmp_path, capsys):
    for camera in ("cam1", "cam2"):
        annotate(tmp_path / "data" / camera, (1, 2))
    report = tmp_path / "rows.json"
    assert crowd("eval", tmp_path / "data", "--json", report) == 0
    assert crowd("eval", tmp_path / "data", "--against", report) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["data", "4"]
    # Nothing can be counted any more, which would be the first thing to be told.
    for picture in (tmp_path / "data").rglob("*.jpg"):
        picture.write_bytes(b"bad")
    rows = json.loads(report.read_text())
    report.write_text(json.dumps([rows[0] | {"predicted": "7"}]))
    assert crowd("eval", tmp_path / "data", "--against", report) == 2
    assert "rows.json does not hold rows of crowd eval --json ([0]: " in capsys.readouterr().err
    report.write_text(json.dumps([row | {"true": 50} for row in rows]))
    assert crowd("eval", tmp_path / "data", "--against", report) == 2
    assert "people now and 50 in the earlier evaluation" in capsys.readouterr().err


def test_eval_shows_the_splits_of_a_part(tmp_path, capsys):
    annotate(tmp_path / "photos" / "train", (1, 2))
    annotate(tmp_path / "photos" / "val", (3,))
    report = tmp_path / "rows.json"
    assert crowd("eval", tmp_path / "photos", "--json", report) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:13].strip() for line in lines] == ["part", "photos, train", "photos, val", "all"]
    assert [(r["part"], r["split"]) for r in json.loads(report.read_text())] == [("photos", "train")] * 2 + [
        ("photos", "val")
    ]
