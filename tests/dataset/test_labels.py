"""Which labels are counted: chosen once for all annotations of a data set."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from annotation_files import SIZE, coco, cvat, heads, labelme, save, yolo
from PIL import Image

from engine.dataset.samples import find_samples
from engine.errors import ConfigError

HEAD = '<points label="head" points="10,20"/>'
CAR = '<box label="car" xtl="40" ytl="40" xbr="60" ybr="60"/>'
PERSON = '<box label="person" xtl="0" ytl="0" xbr="20" ybr="60"/>'
LABELS = [{"id": 1, "name": "head"}, {"id": 2, "name": "person"}, {"id": 3, "name": "car"}]
ONE_CAR = {"bbox": [40, 40, 20, 20], "category_id": 3}


def cameras(root: Path, **shapes: str) -> Path:
    """A CVAT file for each camera, beside its picture; they are named here, with the shapes in them."""
    for name, inside in shapes.items():
        save(root, f"{name}/annotations.xml", cvat(inside, name=f"{name}.jpg"))
        Image.new("RGB", SIZE).save(root / name / f"{name}.jpg")
    return root


def test_cars_of_a_file_without_heads_are_not_counted(tmp_path, caplog):
    cameras(tmp_path, cam1=HEAD + CAR, cam2=CAR)
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(tmp_path) == {"cam1.jpg": [[10, 20]], "cam2.jpg": []}
    for name in ("cam1", "cam2"):
        assert f"{name}/annotations.xml: counted are 'head'; left out: 1 of 'car'" in caplog.text
    # Neither does a label have to be in every file.
    assert heads(tmp_path, labels=["head"]) == {"cam1.jpg": [[10, 20]], "cam2.jpg": []}
    with pytest.raises(ConfigError, match=r"has no label 'heda'; it has 'car', 'head'"):
        find_samples(tmp_path, labels=["heda"])


def test_points_without_labels_stay_beside_other_labels(tmp_path):
    cameras(tmp_path, cam1=HEAD + CAR)
    save(tmp_path, "mine/points.json", {"a.jpg": [[5, 6]]})
    Image.new("RGB", SIZE).save(tmp_path / "mine" / "a.jpg")
    assert heads(tmp_path) == {"cam1.jpg": [[10, 20]], "a.jpg": [[5, 6]]}
    assert heads(tmp_path, labels=["head"]) == {"cam1.jpg": [[10, 20]], "a.jpg": [[5, 6]]}


@pytest.mark.parametrize("labels", [[], ["head"]])
def test_labels_that_a_file_declares_are_known(labels, data, tmp_path_factory):
    save(data, "a.json", coco(ONE_CAR, categories=LABELS))
    assert heads(data, labels=labels) == {"1.jpg": [], "2.jpg": []}
    save(data, "a.json", coco(categories=LABELS))
    assert heads(data, labels=labels) == {"1.jpg": [], "2.jpg": []}
    (data / "a.json").unlink()
    names = "<name>head</name><type>any</type><attributes></attributes>"
    meta = f"<meta><task><labels><label>{names}</label><label><name>car</name></label></labels></task></meta>"
    save(data, "a.xml", cvat(CAR).replace("<image", meta + "<image", 1))
    assert heads(data, labels=labels) == {"1.jpg": []}
    (data / "a.xml").unlink()
    yolo(data, "1 0.5 0.5 0.1 0.1\n", "names: [head, car]\n")
    assert heads(data, labels=labels) == {"1.jpg": [], "2.jpg": []}


def test_points_of_a_skeleton_are_no_labels(data):
    point = "<label><name>head</name><type>points</type><parent>body</parent></label>"
    meta = f"<meta><job><labels><label><name>body</name></label>{point}</labels></job></meta>"
    save(data, "a.xml", cvat(CAR.replace("car", "body")).replace("<image", meta + "<image", 1))
    assert heads(data) == {"1.jpg": [[50, 50]]}


def test_persons_are_counted_where_heads_are_only_declared(data, caplog):
    save(data, "a.json", coco({"bbox": [0, 0, 20, 90], "category_id": 2}, ONE_CAR, categories=LABELS))
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data)["1.jpg"] == [[10, 45]]
    assert "counted are 'person'; nothing is marked as 'head'" in caplog.text


def test_heads_in_one_file_and_persons_in_another_are_refused(tmp_path):
    cameras(tmp_path, cam1=HEAD + PERSON, cam2=PERSON)
    with pytest.raises(
        ConfigError, match=r"cam2/annotations\.xml marks people as 'person' alone, and other .* as 'head'; say which"
    ):
        find_samples(tmp_path)
    assert heads(tmp_path, labels=["head"]) == {"cam1.jpg": [[10, 20]], "cam2.jpg": []}
    assert heads(tmp_path, labels=["person"]) == {"cam1.jpg": [[10, 30]], "cam2.jpg": [[10, 30]]}
    both = heads(tmp_path, labels=["head", "person"])
    assert both == {"cam1.jpg": [[10, 20], [10, 30]], "cam2.jpg": [[10, 30]]}


@pytest.mark.parametrize("name", ["object", "0", "car"])
def test_a_lone_label_that_does_not_name_people_is_told(name, data, caplog):
    save(data, "1.json", labelme({"label": name}))
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": [[1, 2]]}
    assert f"the only label, '{name}', does not name people; all of it is counted" in caplog.text
    caplog.clear()
    assert heads(data, labels=[name]) == {"1.jpg": [[1, 2]]}
    assert "does not name people" not in caplog.text


def test_one_of_several_declared_labels_is_not_taken_for_people(data):
    yolo(data, "1 0.5 0.5 0.1 0.1\n", "names: [cat, dog]\n")
    with pytest.raises(ConfigError, match="has the labels 'cat', 'dog', and none is called"):
        find_samples(data)
    assert heads(data, labels=["dog"])["1.jpg"] == [[100, 50]]


def test_the_category_that_roboflow_puts_above_the_others_is_none(data):
    categories = [{"id": 0, "name": "heads", "supercategory": "none"}, {"id": 1, "name": "visitor",
                  "supercategory": "heads"}]  # fmt: skip
    save(data, "a.json", coco({"bbox": [0, 0, 20, 90]}, categories=categories))
    assert heads(data)["1.jpg"] == [[10, 45]]


def test_categories_without_names_are_numbers(data):
    save(data, "a.json", coco({"bbox": [0, 0, 20, 90]}, ONE_CAR, categories=[]))
    with pytest.raises(ConfigError, match="has the labels '1', '3', and none is called"):
        find_samples(data)
    assert heads(data, labels=["3"])["1.jpg"] == [[50, 50]]
