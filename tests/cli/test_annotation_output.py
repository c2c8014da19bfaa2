"""``crowd count --annotations``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from stand_in_counter import crowd

from engine.cli import main

PICTURES = Path(__file__).parents[2] / "examples" / "pictures" / "images"


def test_counts_become_annotations_that_eval_reads(tmp_path, capsys):
    """The error against our own counts is none."""
    assert main(["count", str(PICTURES), "--annotations", str(tmp_path / "coco.json"), "--threads", "1"]) == 0
    found = json.loads((tmp_path / "coco.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["pedestrians.jpg"]
    assert len(found["annotations"]) > 5
    capsys.readouterr()
    options = ["--annotations", str(tmp_path / "coco.json"), "--json", str(tmp_path / "rows.json"), "--threads", "1"]
    assert main(["eval", str(PICTURES), *options]) == 0
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["true"] == row["predicted"] == len(found["annotations"]) == row["matched"]["4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--annotations {folder}/out", "cannot tell from 'out' which annotations to write"),
        ("--annotations {folder}/a.txt --annotations-format coco --annotations-box 0", "must be a positive number"),
        ("--annotations {folder}/a.json --annotations-box nan", "must be a positive number of pixels, got nan"),
        ("--annotations {folder}/gone/a.json", "the folder .*gone does not exist"),
        ("--annotations {folder}/x.jpg --annotations-format yolo", "are a folder of files, and .* is a file"),
        ("--annotations - --annotations-format coco", "not to standard output"),
        ("--annotations {folder}/a.json --json {folder}/a.json", "would both write to"),
        ("--annotations {folder}/photos/1.jpg --annotations-format coco", "would write to .*1.jpg"),
    ],
)
def test_annotations_that_cannot_be_written_are_refused(options, message, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for path in (tmp_path / "photos" / "1.jpg", tmp_path / "x.jpg"):
        Image.new("RGB", (64, 48)).save(path)
    assert crowd("count", tmp_path / "photos", *options.format(folder=tmp_path).split()) == 2
    assert re.search(message, capsys.readouterr().err)


def test_standard_input_has_no_name(tmp_path, capsys):
    assert crowd("count", "-", "--annotations", tmp_path / "a.json") == 2
    assert "standard input has no name" in capsys.readouterr().err


def test_a_picture_that_fails_is_left_out_of_the_annotations(tmp_path):
    for name, content in (("1.jpg", b"bad"), ("2.jpg", b"xx")):
        (tmp_path / name).write_bytes(content)
    assert crowd("count", tmp_path, "--annotations", tmp_path / "a.json", "--quiet") == 1
    assert [image["file_name"] for image in json.loads((tmp_path / "a.json").read_text())["images"]] == ["2.jpg"]


@pytest.mark.parametrize(("name", "form"), [("a.json", "coco"), ("corrected", "labelme")])
def test_a_resumed_job_has_all_annotations_and_replaces_no_correction(name, form, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (64, 48)).save(photos / f"{number}.jpg")
    outputs = ["--annotations", tmp_path / name, "--annotations-format", form, "--csv", tmp_path / "a.csv", "--quiet"]
    (photos / "3.jpg").write_bytes(b"stop")
    assert crowd("count", photos, *outputs) == 130
    if form == "labelme":
        (tmp_path / name / "1.json").write_text("corrected")
    Image.new("RGB", (64, 48)).save(photos / "3.jpg")
    assert crowd("count", photos, *outputs, "--resume") == 0
    if form == "coco":
        found = [image["file_name"] for image in json.loads((tmp_path / name).read_text())["images"]]
        assert sorted(found) == ["1.jpg", "2.jpg", "3.jpg"]
    else:
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["1.json", "2.json", "3.json"]
        assert (tmp_path / name / "1.json").read_text() == "corrected"
