"""COCO: what its files mean, and what in them cannot be right."""

from __future__ import annotations

import logging

import pytest
from annotation_files import SIZE, coco, heads, save
from PIL import Image

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


def test_coco_boxes_keypoints_and_outlines(data):
    person = {"id": 2, "name": "person", "keypoints": ["nose", "left_eye", "right_eye", "left_ankle"]}
    content = coco(
        {"bbox": [10, 20, 30, 40]},
        {"segmentation": [[0, 0, 10, 0, 10, 6], [20, 0, 20, 4]], "bbox": []},
        categories=[{"id": 1, "name": "head"}],
    )
    save(data, "a.json", content)
    assert heads(data) == {"1.jpg": [[25, 40], [10, 3]], "2.jpg": []}
    content = coco(
        {"keypoints": [50, 10, 2, 48, 8, 2, 52, 8, 2, 50, 90, 2], "category_id": 2},
        {"keypoints": [0, 0, 0, 40, 8, 2, 44, 10, 1, 50, 90, 2], "category_id": 2, "image_id": 2},
        {"keypoints": [0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 90, 2], "bbox": [0, 0, 10, 90], "category_id": 2, "image_id": 2},
        categories=[person],
    )
    save(data, "a.json", content)
    # The nose; the middle of the eyes; the box, where no keypoint of the head is seen.
    assert heads(data) == {"1.jpg": [[50, 10]], "2.jpg": [[42, 9], [5, 45]]}


def test_coco_without_categories(data):
    content = coco({"bbox": [10, 20, 30, 40], "category_id": None}, categories=[])
    save(data, "points.json", content)
    assert heads(data) == {"1.jpg": [[25, 40]], "2.jpg": []}
    # Those that have numbers are called by them.
    save(data, "points.json", coco({"bbox": [10, 20, 30, 40]}, {"bbox": [0, 0, 6, 8], "category_id": 2}, categories=[]))
    assert heads(data, labels=["2"]) == {"1.jpg": [[3, 4]], "2.jpg": []}


def test_coco_crowds_are_left_out_and_told(data, caplog):
    save(
        data, "a.json", coco({"bbox": [0, 0, 200, 100], "iscrowd": 1, "segmentation": {"counts": "x", "size": [1, 1]}})
    )
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": [], "2.jpg": []}
    assert "left out 1 regions of crowds" in caplog.text


TWO = [{"id": 1, "name": "Person"}, {"id": 2, "name": "head"}, {"id": 3, "name": "dog"}]
BOXES = [
    {"bbox": [0, 0, 20, 90]},
    {"bbox": [5, 0, 10, 10], "category_id": 2},
    {"bbox": [50, 50, 9, 9], "category_id": 3},
]


def test_heads_are_counted_where_persons_are_marked_too(data, caplog):
    save(data, "a.json", coco(*BOXES, categories=TWO))
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data)["1.jpg"] == [[10, 5]]
    assert "counted are 'head'; left out: 1 of 'Person', 1 of 'dog'" in caplog.text
    assert heads(data, labels=["dog", "Person"])["1.jpg"] == [[10, 45], [54.5, 54.5]]
    with pytest.raises(ConfigError, match=r"a\.json has no label 'cat'; it has 'Person', 'dog', 'head'"):
        find_samples(data, labels=["cat"])
    save(data, "a.json", coco(*BOXES[::2], categories=TWO))
    assert heads(data)["1.jpg"] == [[10, 45]]


def test_labels_of_which_none_names_people_are_refused(data):
    save(data, "a.json", coco(*BOXES, categories=[{"id": i, "name": name} for i, name in enumerate("abcd")]))
    with pytest.raises(
        ConfigError, match=r"has the labels 'a', 'b', 'c', 'd', and none is called head or person.* --label NAME"
    ):
        find_samples(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco({"bbox": [1, 2, 3]}), r"a\.json, annotations\[0\]\.bbox must be 4 numbers, got \[1, 2, 3\]"),
        (coco({"bbox": [1, 2, "3", 4]}), r"annotations\[0\]\.bbox\[2\] must be a number, got '3'"),
        (coco({"bbox": [1, 2, True, 4]}), r"annotations\[0\]\.bbox\[2\] must be a number, got True"),
        (coco({"bbox": [1, 2, -3, 4]}), r"annotations\[0\]\.bbox must be x, y, width and height, got -3 x 4"),
        (coco({"bbox": [1, 2, 3, 4], "image_id": 7}), r"annotations\[0\] is of image 7, which is not among the images"),
        (coco({"bbox": [1, 2, 3, 4], "category_id": 7}), r"annotations\[0\] has the category 7, which is not there"),
        (coco({"bbox": [1, 2, 3, 4], "category_id": None}), r"annotations\[0\] must have 'category_id' of type int"),
        (coco({}), r"annotations\[0\] has neither keypoints nor a bbox"),
        (coco({"segmentation": [[1, 2, 3]]}), r"annotations\[0\]\.segmentation\[0\] must be x, y, x, y"),
        (coco({"keypoints": [1, 2]}), r"annotations\[0\]\.keypoints must be 3 numbers"),
        (coco({"bbox": [500, 2, 3, 4]}), r"a\.json, annotations\[0\]: \(501\.5, 4\) lies outside the picture of 200"),
        (coco({"bbox": [0.1, 0.2, 0.1, 0.2]}), r"a\.json, annotations\[0\]: all points lie within 0 to 1"),
        ({**coco(), "images": [{"id": 1, "file_name": "1.jpg"}] * 2}, r"images\[1\]: the id 1 is there twice"),
        ({**coco(), "images": [{"id": i, "file_name": "1.jpg"} for i in (1, 2)]}, "1.jpg is annotated twice: in"),
        ({**coco(), "images": [{"id": 1, "file_name": "gone.jpg"}]}, r"points of 'gone\.jpg', not in"),
        ({**coco(), "images": [{"id": 1}]}, r"images\[0\] must have 'file_name' of type str, got None"),
        ({**coco(), "images": [1]}, r"images\[0\] must be an object, got 1"),
        ({**coco(), "images": [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 200}]},
         r"at 100 x 200 pixels, but it has 200 x 100; it was annotated before the EXIF orientation turned it"),
        ({**coco(), "images": [{"id": 1, "file_name": "1.jpg", "width": 400, "height": 200}]},
         r"images\[0\]: the picture was annotated at 400 x 200 pixels, but it has 200 x 100; use the picture"),
    ],
)  # fmt: skip
def test_coco_that_cannot_be_right_is_refused_with_its_key(content, message, data):
    save(data, "a.json", content)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_pictures_that_coco_does_not_name_are_left_out_and_told(data, caplog):
    save(data, "a.json", {**coco(), "images": [{"id": 1, "file_name": "images\\1.jpg"}]})
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": []}
    assert "1 pictures beside those annotated are not in it; left out" in caplog.text


def test_splits_of_coco_files(tmp_path):
    for number, split in enumerate(("train2017", "val2017"), 1):
        (tmp_path / split).mkdir()
        Image.new("RGB", SIZE).save(tmp_path / split / f"{number}.jpg")
        images = [{"id": 1, "file_name": f"{number}.jpg"}]
        save(tmp_path, f"annotations/instances_{split}.json", {"images": images, "annotations": []})
    assert {s.image.stem: s.split for s in find_samples(tmp_path)} == {"1": "train", "2": "val"}
    assert [s.image.stem for s in find_samples(tmp_path, "val")] == ["2"]
    assert [s.image.stem for s in find_samples(tmp_path, "train")] == ["1"]
    Image.new("RGB", SIZE).save(tmp_path / "flat.jpg")
    for name, split in (
        ("instances_val", "val"),
        ("_annotations.test", "test"),
        ("people", "train"),
        ("contest", "train"),
    ):
        one = {"images": [{"id": 1, "file_name": "flat.jpg"}], "annotations": []}
        save(tmp_path, f"{name}.json", one)
        (sample,) = find_samples(tmp_path, annotations=tmp_path / f"{name}.json")
        assert sample.split == split, name


def test_names_that_could_be_two_pictures_are_refused(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", SIZE).save(tmp_path / folder / "1.jpg")
    save(tmp_path, "a.json", {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []})
    with pytest.raises(ConfigError, match=r"'1\.jpg' may be .*1\.jpg or .*1\.jpg; put folders in front"):
        find_samples(tmp_path)
    save(tmp_path, "a.json", {"images": [{"id": 1, "file_name": "b/1.jpg"}], "annotations": []})
    assert [s.image.parent.name for s in find_samples(tmp_path)] == ["b"]
