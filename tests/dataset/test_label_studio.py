"""Label Studio: what its files mean, and what in them cannot be right."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from annotation_files import box, heads, save, task

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


def test_shapes_of_label_studio(data, caplog):
    results = (
        {},
        box(x=10, y=20, width=20, height=40),
        # Turned clockwise by 90 degrees about its upper left corner: 40 wide and 40 high in pixels, now to the left.
        box(x=50, y=20, width=20, height=40, rotation=90),
        # By 30 degrees: half its diagonal is (10 cos - 20 sin, 10 sin + 20 cos) in pixels.
        box(x=50, y=20, width=10, height=40, rotation=30),
        {"type": "ellipselabels", "value": {"x": 5, "y": 6, "radiusX": 1, "radiusY": 1, "ellipselabels": ["head"]}},
        {"type": "polygonlabels", "value": {"points": [[0, 0], [10, 0], [10, 50]], "polygonlabels": ["head"]}},
        {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["head"]}},
        {"type": "choices", "value": {"choices": ["day"]}},
    )
    save(data, "tasks.json", [task(*results)])
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {
            "1.jpg": [[100, 50], [40, 40], [80, 40], np.float32([98.66, 42.321]).tolist(), [10, 6], [10, 25]]
        }
    assert "left out results that are no heads: brushlabels\n" in caplog.text


def test_label_studio_labels_that_stand_apart_from_their_shapes(data):
    value = {"x": 10, "y": 20, "width": 20, "height": 40}
    pairs = [("a", "head"), ("b", "dog")]
    results = [r for i, label in pairs for r in (
        {"id": i, "type": "rectangle", "value": value},
        {"id": i, "type": "labels", "value": {**value, "labels": [label]}},
    )]  # fmt: skip
    save(data, "tasks.json", [task(*results)])
    assert heads(data) == {"1.jpg": [[40, 40]]}


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/3/0badcafe-1.jpg",
        "/data/local-files/?d=photos/1.jpg",
        "s3://bucket/photos/1.jpg",
        "https://example.com/photos/1.jpg?token=a.b",
        "/data/upload/3/%31.jpg",
    ],
)
def test_names_that_label_studio_gives_pictures(image, data):
    save(data, "tasks.json", [{**task({}, image=image), "data": {"caption": "day", "image": image}}])
    assert heads(data) == {"1.jpg": [[100, 50]]}


def test_which_annotation_of_label_studio_holds(data):
    first, second = task({})["annotations"][0], task()["annotations"][0]
    save(data, "tasks.json", [task(annotations=[first, {**second, "was_cancelled": True}])])
    assert heads(data) == {"1.jpg": [[100, 50]]}
    save(data, "tasks.json", [task(annotations=[first, {**second, "ground_truth": True}])])
    assert heads(data) == {"1.jpg": []}
    save(data, "tasks.json", [task(annotations=[first, second])])
    with pytest.raises(ConfigError, match=r"tasks\.json, \[0\] has 2 annotations; mark one as the ground truth"):
        find_samples(data)
    save(data, "tasks.json", [task({}), task(annotations=[], image="2.jpg")])
    assert heads(data) == {"1.jpg": [[100, 50]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image": "1.jpg", "label": [], "annotations": 1}], r"tasks\.json, \[0\] has no 'data'; .* not as JSON-MIN"),
        (
            [task({"value": {"x": "5", "y": 1}})],
            r"\[0\]\.annotations\[0\]\.result\[0\]\.value\.x must be a number, got '5'",
        ),
        ([task({"value": {"x": 500, "y": 1}})], r"result\[0\]: \(1000, 1\) lies outside the picture of 200 x 100"),
        ([task({"image_rotation": 90})], r"result\[0\]: the picture was turned in Label Studio; turn the file itself"),
        ([task({"original_width": 400})], r"the picture was annotated at 400 x 100 pixels, but it has 200 x 100"),
        ([task({}, {"original_width": 400})], r"results of pictures of several sizes"),
        ([task({}), task({})], r"1\.jpg is annotated twice: in .*\[0\].* and in .*\[1\]"),
        ([task(box(x=1, y=1, width=1, height=1, rotation=9) | {"original_width": None})], "needs original_width"),
        ([task({}, data={"image": ""})], r"\[0\]: the task names no picture"),
        ([task({}, annotations=5)], r"\[0\] must have 'annotations' of type list, got 5"),
    ],
    ids=range(10),
)
def test_label_studio_that_cannot_be_right_is_refused_with_its_key(content, message, data):
    save(data, "tasks.json", content)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_files_that_macos_and_editors_leave_behind(data):
    save(data, "tasks.json", [task({}), task({}, image="2.jpg")])
    for name in ("._tasks.json", "._1.jpg", ".1.jpg"):
        (data / name).write_bytes(b"\0\x05\x16\x07")
    assert heads(data) == {"1.jpg": [[100, 50]], "2.jpg": [[100, 50]]}
