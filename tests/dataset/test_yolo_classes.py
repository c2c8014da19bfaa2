"""What data.yaml says of the classes of YOLO's labels, and of the keypoints after each box."""

from __future__ import annotations

import pytest
from annotation_files import heads, save, yolo
from PIL import Image

from engine.dataset.samples import find_samples
from engine.dataset.yolo_classes import Classes, find_classes
from engine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [car, head]\n", {0: "car", 1: "head"}),
        ("names:\n  [car, head]\n", {0: "car", 1: "head"}),
        ("nc: 2\nnames: ['car', # c\n \"head\"  # h\n]\nval: x\n", {0: "car", 1: "head"}),
        ("names:\n  1: head\n  0: car\n", {1: "head", 0: "car"}),
        ("names:\r\n  1: head\r\n  0: car\r\n", {1: "head", 0: "car"}),
        ("names: {0: car, 2: head}\n", {0: "car", 2: "head"}),
        ("names: {\n  '2': head,\n  # of people\n  0: 'car'\n}\n", {2: "head", 0: "car"}),
        ("names: # classes\n  # all\n  0: car\n\n  1: head # of people\nnc: 2\n", {0: "car", 1: "head"}),
        ("names:\n- car\n\n- head\nnc: 2\n", {0: "car", 1: "head"}),
        ("path: .\nnames:\n  - 'it''s # one'\n  - \"a, b\"\nkpt_shape: [1, 3]\n", {0: "it's # one", 1: "a, b"}),
        ("names: ['a, b', \"c: d\"]\n", {0: "a, b", 1: "c: d"}),
        ("names:\n  - 0: x\nnc: 1\n", {0: "x"}),
        ("nc: 2\n", {}),
        ("names:\n", {}),
        ("names: []\n", {}),
        ("names: head\ntrain: x\n", {}),
        ("names:\n  head: 0\n", {}),
        ("names:\n  " + "9" * 5000 + ": head\n", {}),
    ],
)
def test_names_of_a_yaml(text, names, tmp_path):
    (tmp_path / "data.yaml").write_bytes(text.encode())
    assert find_classes([tmp_path]).names == names


@pytest.mark.parametrize(
    ("text", "keypoints"),
    [("kpt_shape: [17, 3]\n", 17), ("kpt_shape:\n  - 1 # head\n  - 2\n", 1), ("kpt_shape: x\n", None), ("", None)],
)
def test_keypoints_of_a_yaml(text, keypoints, tmp_path):
    (tmp_path / "data.yml").write_text(text)
    assert find_classes([tmp_path]).keypoints == keypoints


def test_names_in_lines(tmp_path):
    (tmp_path / "classes.txt").write_text("car\r\nhead\r\n\r\n")
    assert find_classes([tmp_path / "none", tmp_path]) == Classes({0: "car", 1: "head"})


def test_names_keep_their_numbers(data):
    yolo(data, "1 0.5 0.5 0.1 0.1\n0 0.2 0.2 0.1 0.1\n7 0.9 0.9 0.1 0.1\n", "names:\n  1: head\n  0: car\n")
    assert heads(data)["1.jpg"] == [[100, 50]]
    assert heads(data, labels=["7"])["1.jpg"] == [[180, 90]]


@pytest.mark.parametrize(
    ("shape", "line", "found"),
    [
        ("[1, 3]", "0 0.5 0.5 0.1 0.2 0.4 0.3 2", [80, 30]),
        ("[1, 3]", "0 0.5 0.5 0.1 0.2 0.4 0.3 1.000", [80, 30]),
        ("[1, 3]", "0 0.5 0.5 0.1 0.2 0.4 0.3 0.93", [80, 30]),
        ("[1, 3]", "0 0.5 0.5 0.1 0.2 0 0 0", [100, 50]),
        ("[1, 3]", "0 0.5 0.5 0.1 0.2 0.4 0.3 0", [100, 50]),
        ("[1, 3]", "0 0.5 0.5 0.1 0.2 0 0 2", [100, 50]),
        ("[1, 2]", "0 0.5 0.5 0.1 0.2 0.4 0.3", [80, 30]),
        ("[1, 2]", "0 0.5 0.5 0.1 0.2 0 0", [100, 50]),
        ("[1, 2]", "0 0.5 0.5 0.1 0.2 -1 -1", [100, 50]),
        ("[2, 3]", "0 0.5 0.5 0.1 0.2 0.4 0.3 2 0 0 0", [100, 50]),
        ("[2, 3]", "0 0.5 0.5 0.1 0.2", [100, 50]),
    ],
)
def test_keypoints_that_are_not_marked_leave_the_box(shape, line, found, data):
    yolo(data, f"{line}\n", f"kpt_shape: {shape}\nnames: [head]\n")
    assert heads(data)["1.jpg"] == [found]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1 0.2 0.4 0.3 9", "must say by 0, 1 or 2 whether its keypoint is seen, got '9'"),
        ("0 0.5 0.5 0.1 0.2 0.4 0.3 x", "must say by 0, 1 or 2 whether its keypoint is seen, got 'x'"),
        ("0 0.5 0.5 0.1 0.2 nan 0.3 2", "must have shares .*, got 'nan'"),
        ("0 0.5 0.5 0.1 0.2 1.5 0.3 2", "must have shares .*, got '1.5'"),
        ("0 0.5 0.5 0.1 0.2 0.4 0.3 2 0.9", "has 9 values, and data.yaml says 1 keypoints after each box"),
    ],
)
def test_keypoints_that_cannot_be_right_are_refused(line, message, data):
    yolo(data, f"{line}\n", "kpt_shape: [1, 3]\nnames: [head]\n")
    with pytest.raises(ConfigError, match=f"line 1 {message}"):
        find_samples(data)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("0 0.5 0.5 0.1 0.1 0.5 0.45\n", "line 1 may be a box with keypoints or an outline"),
        ("0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1 0 0\n", "line 2 may be a box with keypoints or an outline"),
        ("0 0.5 0.5 0.1 0.2 0.4 0.3 2\n", "line 1 has 8 values, which are no outline; for keypoints give data.yaml"),
        ("0 0.5 0.5 0.1 0.2 0.4 0.3 1 0.5 0.5 1\n", "line 1 may be a box with keypoints or an outline"),
        ("0" + " 0.5" * 4 + " 0.4 0.3 1.0 0 0 0.0" * 2 + "\n", "line 1 may be a box with keypoints or an outline"),
        # The third corner lies outside the box; an outline of more corners stands beside it; four corners; five.
        ("0 0.1 0.1 0.2 0.1 0.2 0.3\n", None),
        ("0 0.5 0.5 0.51 0.5 0.5 0.52\n0 0.5 0.5 0.6 0.5 0.6 0.6 0.5 0.6\n", None),
        ("0 0.5 0.5 0.51 0.5 0.5 0.52 0.5 0.52\n", None),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.15 0.3 0.1 0.2\n", None),
    ],
)
def test_keypoints_and_outlines_are_told_apart_or_refused(text, refused, data):
    yolo(data, text)
    if refused is None:
        assert len(heads(data)["1.jpg"]) == text.count("\n")
        return
    with pytest.raises(ConfigError, match=rf"1\.txt, {refused}.*kpt_shape"):
        find_samples(data)


def test_labels_of_pictures_that_are_called_as_other_files_are(tmp_path):
    (tmp_path / "images").mkdir()
    names = ("test", "train", "val", "notes", "readme")
    for name in names:
        Image.new("RGB", (200, 100)).save(tmp_path / "images" / f"{name}.jpg")
        save(tmp_path, f"labels/{name}.txt", "0 0.5 0.5 0.1 0.1\n")
        save(tmp_path, f"{name}.txt", "images/test.jpg\n")
    save(tmp_path, "labels/classes.txt", "head\n")
    save(tmp_path, "labels/license.txt", "Public domain.\n")
    assert heads(tmp_path) == {f"{name}.jpg": [[100, 50]] for name in names}
    save(tmp_path, "labels/test.txt", "0 0,5 0,5 0,1 0,1\n")
    with pytest.raises(ConfigError, match=r"test\.txt, line 1 must have shares"):
        find_samples(tmp_path)
