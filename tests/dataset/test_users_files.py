"""Points files as users save them: what is read rightly, and what is refused with file and line."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.dataset.samples import find_samples
from engine.errors import ConfigError

ROWS = "image,x,y\r\ncafé_1.jpg,10,20\r\nb_2.jpg,5,6\r\n"
HEADS = {"café_1.jpg": [[10, 20]], "b_2.jpg": [[5, 6]]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures of 320 x 240 pixels."""
    (tmp_path / "images").mkdir()
    for name in HEADS:
        Image.new("RGB", (320, 240)).save(tmp_path / "images" / name)
    return tmp_path


def heads(data: Path, **options) -> dict[str, list]:
    return {
        unicodedata.normalize("NFC", sample.image.name): sample.points.tolist()
        for sample in find_samples(data, **options)
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_csv_in_any_encoding(encoding, data):
    (data / "points.csv").write_bytes(ROWS.encode(encoding))
    assert heads(data) == HEADS


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_json_in_any_encoding(encoding, data):
    (data / "points.json").write_bytes(json.dumps(HEADS, ensure_ascii=False).encode(encoding))
    assert heads(data) == HEADS


@pytest.mark.parametrize(
    "text",
    [
        "image;x;y\ncafé_1.jpg;10,5;20,25\nb_2.jpg;5;6\n",
        "image\tx\ty\ncafé_1.jpg\t10,5\t20,25\nb_2.jpg\t5\t6\n",
        'image,x,y\ncafé_1.jpg,"10,5","20,25"\nb_2.jpg,5,6\n',
        "sep=;\nimage;x;y\ncafé_1.jpg;10,5;20,25\nb_2.jpg;5;6\n",
        "Image, X, Y\ncafé_1.jpg, 10.5, 20.25\n\nb_2.jpg, 5, 6\n",
    ],
)
def test_csv_of_spreadsheets(text, data):
    (data / "points.csv").write_text(text, encoding="utf-8")
    assert heads(data) == {"café_1.jpg": [[10.5, 20.25]], "b_2.jpg": [[5, 6]]}


def test_names_as_macos_takes_them_apart(data):
    (data / "points.csv").write_text(unicodedata.normalize("NFD", ROWS), encoding="utf-8")
    assert heads(data) == HEADS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x,y\ncafé_1.jpg,10,5,20,5\n", r"points\.csv, line 2 has 5 values where the header has 3; .*semicolons"),
        ("image,x,y\nb_2.jpg,1,2\nb_2.jpg,1.234,5\n", None),
        ("image;x;y\nb_2.jpg;1.234,5;6\n", r"points\.csv, line 2: points must be pairs of numbers, got '1\.234,5'"),
        ("image,x,y\nb_2.jpg,5,6\nb_2.jpg,,6\n", r"points\.csv, line 3: points must be pairs of numbers, got ''"),
        ("image,x,y\nb_2.jpg,nan,6\n", r"points\.csv, line 2: points must be pairs of numbers, got 'nan'"),
        ("image,x,y\nb_2.jpg,1_0,6\n", r"points\.csv, line 2: .*got '1_0'"),
        ("image,x,y\n,1,6\n", r"points\.csv, line 2 names no picture"),
        (
            "image,x,y\nb_2.jpg,1,6\ncafé_1.jpg,9000,9000\n",
            r"points\.csv, line 3: \(9000, 9000\) lies outside .*320 x 240",
        ),
        ("image,x,y\nb_2.jpg,1,6\nb_2.jpg,-50,6\nb_2.jpg,7,-60\n", r"line 3: \(-50, 6\) lies .*as do 1 other points"),
        (
            "image,x,y\nb_2.jpg,0.1,0.2\ncafé_1.jpg,0.5,1\n",
            r"points\.csv, line 2: all points lie within 0 to 1, .*fractions",
        ),
        ("image,x,y\ngone.jpg,1,2\n", r"points\.csv has points of 'gone\.jpg', not in .*images"),
        ('image,x,y\n"b_2.jpg,1,2\n', r"points\.csv, line \d"),
        ("image,x,y\nb_2.jpg,1,2\0\n", r"points\.csv, line 2"),
        ("", "must start with the header image,x,y"),
    ],
)
def test_a_csv_that_cannot_be_right_is_refused_with_its_line(text, message, data):
    (data / "points.csv").write_text(text, encoding="utf-8")
    if message is None:
        assert heads(data)["b_2.jpg"] == [[1, 2], [pytest.approx(1.234), 5]]
        return
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"b_2.jpg": [],\n"café_1.jpg": [],\n"b_2.jpg": [[1, 2]]}',
            r"points\.json, line 3: 'b_2\.jpg' is there twice",
        ),
        ('{"b_2.jpg": [], "café_1.jpg": [], "gone.jpg": [[1, 2]]}', r"points of 'gone\.jpg', not in .*images"),
        ('{"b_2.jpg": [[1, 2]],\n"café_1.jpg": [[1, 2]\n', r"points\.json, line 3 is not JSON"),
        ('{"b_2.jpg": [], "café_1.jpg": [[1, 2], [9000, 1]]}', r"café_1\.jpg, point 1: \(9000, 1\) lies outside"),
        ('{"b_2.jpg": [], "café_1.jpg": [[0.5, 0.25]]}', r"café_1\.jpg, point 0: all points lie within 0 to 1"),
        ('{"b_2.jpg": [], "café_1.jpg": [[NaN, 1]]}', "it has NaN, which is no number"),
        ('{"b_2.jpg": [], "café_1.jpg": [[1e999, 1]]}', "missing or infinite coordinate"),
        ('{"b_2.jpg": [], "café_1.jpg": [[1' + "0" * 5000 + ", 1]]}", r"points\.json is not JSON that can be read"),
        ('{"b_2.jpg": ' + "[" * 100_000 + "]" * 100_000 + "}", r"points\.json is not JSON that can be read"),
        ('{"b_2.jpg": []}', r"no entry for café_1\.jpg; every picture needs its points"),
    ],
    ids=range(10),
)
def test_a_json_that_cannot_be_right_is_refused_with_its_key(text, message, data):
    (data / "points.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_a_file_that_is_no_text_is_refused_with_its_line(data):
    (data / "points.csv").write_bytes(b"image,x,y\nb_2.jpg,1,2\n\x81\xfe,1,2\n")
    with pytest.raises(ConfigError, match=r"points\.csv, line 3: this is no text in UTF-8"):
        find_samples(data)


def test_heads_at_the_edge_may_lie_a_little_outside(data):
    (data / "points.json").write_text(json.dumps({"b_2.jpg": [[-2, 244]], "café_1.jpg": []}))
    assert heads(data)["b_2.jpg"] == [[-2, 244]]


def test_pixels_of_a_picture_that_the_camera_held_sideways(data):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (320, 240)).save(data / "images" / "b_2.jpg", exif=exif)
    (data / "points.json").write_text(json.dumps({"b_2.jpg": [[230, 310]], "café_1.jpg": []}))
    assert heads(data)["b_2.jpg"] == [[230, 310]]
    (data / "points.json").write_text(json.dumps({"b_2.jpg": [[310, 230]], "café_1.jpg": []}))
    with pytest.raises(ConfigError, match="lies outside the picture of 240 x 320"):
        find_samples(data)


def test_a_picture_that_is_annotated_in_two_files_is_refused(data):
    (data / "points.json").write_text(json.dumps(HEADS))
    (data / "points.csv").write_text(ROWS, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"annotated twice: in .*points\.\w+.* and in .*points\.\w+"):
        find_samples(data)
    assert heads(data, form="points-csv") == HEADS
    assert heads(data, annotations=data / "points.json") == HEADS


def test_an_annotation_file_may_be_named_itself_and_lie_elsewhere(data, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine.csv"
    elsewhere.write_text(ROWS, encoding="utf-8")
    assert heads(data / "images", annotations=elsewhere) == HEADS
    (data / "images" / "all.csv").write_text(ROWS, encoding="utf-8")
    assert heads(data / "images" / "all.csv") == HEADS


def test_what_is_no_annotation_file_is_refused(data):
    (data / "list.txt").write_text("b_2.jpg")
    with pytest.raises(
        ConfigError, match=r"list\.txt has no annotations in a format that is known; read are coco, yolo"
    ):
        find_samples(data / "images", annotations=data / "list.txt")


def test_float32_points(data):
    (data / "points.json").write_text(json.dumps(HEADS))
    assert {sample.points.dtype for sample in find_samples(data)} == {np.dtype(np.float32)}
