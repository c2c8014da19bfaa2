"""YOLO: what its files mean, and what in them cannot be right."""

from __future__ import annotations

import logging

import pytest
from annotation_files import SIZE, heads, save, yolo
from PIL import Image

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0 0.5 0.5 0.1 0.2\n0 0.25 1 0.1 0.2 0.93\n", [[100, 50], [50, 100]]),
        ("0 0.1 0.1 0.2 0.1 0.2 0.3\r\n", [[30, 20]]),
        ("0 0 0 0.5 0 0.5 1 0 1\n", [[50, 50]]),
        ("\n", []),
    ],
)
def test_yolo_boxes_outlines_and_turned_boxes(text, found, data, caplog):
    yolo(data, text)
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": found, "2.jpg": []}
    assert "1 pictures have no text file of labels; nobody is in them" in caplog.text


@pytest.mark.parametrize(
    "yaml",
    [
        "names: [dog, head]\n",
        "nc: 2\nnames:\n- dog\n- 'head'\nnc: 2\n",
        "names:\n  0: dog\n  1: head # of people\n",
        "names: {0: dog, 1: head}\n",
    ],
)
def test_yolo_names_of_classes(yaml, data):
    yolo(data, "0 0.5 0.5 0.1 0.2\n1 0.25 0.5 0.1 0.2\n", yaml)
    assert heads(data)["1.jpg"] == [[50, 50]]
    assert heads(data, labels=["dog"])["1.jpg"] == [[100, 50]]


def test_yolo_classes_without_names_are_numbers(data):
    yolo(data, "0 0.5 0.5 0.1 0.2\n7 0.25 0.5 0.1 0.2\n")
    assert heads(data, labels=["7"])["1.jpg"] == [[50, 50]]
    with pytest.raises(ConfigError, match="has the labels '0', '7', and none is called"):
        find_samples(data)


def test_yolo_poses(data):
    yolo(data, "0 0.5 0.5 0.1 0.2 0.4 0.3 2\n", "kpt_shape: [1, 3]\nnames: [head]\n")
    assert heads(data)["1.jpg"] == [[80, 30]]
    save(data, "data.yaml", "kpt_shape: [2, 2]\nnames: [head]\n")
    save(data, "labels/1.txt", "0 0.5 0.5 0.1 0.2 0.4 0.3 0.1 0.1\n")
    assert heads(data)["1.jpg"] == [[100, 50]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 0.5 0.5 0.1 0.2\n0 0,5 0,5 0,1 0,1\n", r"1\.txt, line 2 must have shares .*, got '0,5'"),
        ("0 100 50 20 20\n", r"1\.txt, line 1 must have shares of the picture's sides, from 0 to 1, got '100'"),
        ("head 0.5 0.5 0.1 0.1\n", r"1\.txt, line 1 must begin with the number of a class, got 'head'"),
        ("0 0.5 0.5\n", r"1\.txt, line 1 must be a class and x, y, width and height.* got 3 values"),
        ("0 nan 0.5 0.1 0.1\n", r"line 1 must have shares .*, got 'nan'"),
    ],
)
def test_yolo_that_cannot_be_right_is_refused_with_its_line(text, message, data):
    yolo(data, text)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_yolo_labels_that_were_exported_without_pictures(data, tmp_path_factory):
    """As CVAT does it, with the names of the classes beside the folder."""
    exported = tmp_path_factory.mktemp("exported")
    save(exported, "obj_train_data/1.txt", "0 0.5 0.5 0.1 0.2\n")
    save(exported, "obj_train_data/2.txt", "")
    with pytest.raises(ConfigError, match="no annotations in a format that is known"):
        find_samples(data, annotations=exported)
    assert heads(data, annotations=exported, form="yolo") == {"1.jpg": [[100, 50]], "2.jpg": []}
    save(exported, "obj.names", "head\n")
    save(exported, "train.txt", "data/obj_train_data/1.jpg\ndata/obj_train_data/2.jpg\n")
    assert heads(data, annotations=exported) == {"1.jpg": [[100, 50]], "2.jpg": []}


def test_captions_beside_pictures_are_no_labels(data):
    save(data, "1.txt", "two people on a bench")
    with pytest.raises(ConfigError, match="no annotated pictures below"):
        find_samples(data)


@pytest.mark.parametrize(
    ("layout", "splits"),
    [
        (
            {"images/train/1.jpg": "labels/train/1.txt", "images/val/2.jpg": "labels/val/2.txt"},
            {"1": "train", "2": "val"},
        ),
        (
            {"train/images/1.jpg": "train/labels/1.txt", "valid/images/2.jpg": "valid/labels/2.txt"},
            {"1": "train", "2": "val"},
        ),
        (
            {"test/images/1.jpg": "test/labels/1.txt", "other/images/2.jpg": "other/labels/2.txt"},
            {"1": "test", "2": "train"},
        ),
    ],
)
def test_splits_of_yolo_folders(layout, splits, tmp_path):
    for picture, labels in layout.items():
        (tmp_path / picture).parent.mkdir(parents=True)
        Image.new("RGB", SIZE).save(tmp_path / picture)
        save(tmp_path, labels, "0 0.5 0.5 0.1 0.1\n")
    assert {s.image.stem: s.split for s in find_samples(tmp_path)} == splits
