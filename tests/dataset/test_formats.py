"""What each format means, and what in it cannot be right."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from engine.dataset.samples import find_samples
from engine.errors import ConfigError

SIZE = (200, 100)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two pictures of 200 x 100 pixels in it."""
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", SIZE).save(tmp_path / name)
    return tmp_path


def save(data: Path, name: str, content: Any) -> None:
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (data / name).write_text(text, encoding="utf-8")


def heads(data: Path, **options) -> dict[str, list]:
    return {s.image.name: s.points.round(3).tolist() for s in find_samples(data, **options)}


def coco(*annotations: dict, categories: Any = ({"id": 1, "name": "head"},)) -> dict:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2)]
    defaults = {"image_id": 1, "category_id": 1}
    return {
        "images": images,
        "annotations": [{"id": i, **defaults, **a} for i, a in enumerate(annotations)],
        "categories": list(categories),
    }


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
        ConfigError, match=r"has the labels 'b', 'c', 'd', and none is called head or person.* --label NAME"
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


def cvat(*shapes: str, name: str = "1.jpg") -> str:
    inside = "\n".join(shapes)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f'<image id="0" name="{name}" width="200" height="100">\n{inside}\n</image>\n</annotations>\n'
    )


def test_shapes_of_cvat(data, caplog):
    shapes = (
        '<points label="head" points="10.5,20;30,40"></points>',
        '<box label="head" xtl="0" ytl="10" xbr="20" ybr="30" rotation="45.0"><attribute name="a">b</attribute></box>',
        '<ellipse label="head" cx="50" cy="60" rx="5" ry="6"/>',
        '<polygon label="head" points="0,0;10,0;10,8"/>',
        '<polyline label="head" points="0,0;10,0"/>',
        '<skeleton label="head"><points label="nose" outside="1" points="1,1"/>'
        '<points label="left_ear" outside="0" points="70,30"/><points label="right_ear" points="80,32"/></skeleton>',
    )
    save(data, "annotations.xml", cvat(*shapes))
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": [[10.5, 20], [30, 40], [10, 20], [50, 60], [5, 4], [75, 31]]}
    assert "left out shapes that are no heads: polyline" in caplog.text


BOMB = '<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            cvat('<points label="head" points="10;20"/>'),
            r"annotations\.xml, line 5: y of <points> must be a number, got ''",
        ),
        (
            cvat('<points label="head" points="1,2"/>', '<points label="head" points="nan,2"/>'),
            r"line 6: x of <points>",
        ),
        (cvat('<points label="head" points="10,5,20,5"/>'), r"line 5: y of <points> must be a number, got '5,20,5'"),
        (cvat('<points label="head" points="900,5"/>'), r"annotations\.xml, line 5: \(900, 5\) lies outside"),
        (cvat('<points points="1,2"/>'), r"line 5: <points> has no label"),
        (cvat('<box label="head" xtl="1" ytl="2" xbr="3"/>'), r"line 5: <box> has no ybr"),
        (cvat('<skeleton label="head"></skeleton>'), r"line 5: the skeleton 'head' has no visible points"),
        (cvat("<points"), r"line 6 is not XML"),
        (cvat(name="gone.jpg"), r"points of 'gone\.jpg', not in"),
        (cvat()[:-5], r"is not XML"),
        (
            '<annotations><track id="0" label="head"></track></annotations>',
            'line 1: this is "CVAT for video"; export as',
        ),
        (
            '<?xml version="1.0"?>' + BOMB + "]><annotations>&j;</annotations>",
            "line 1: a document type, .* is not read",
        ),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>', "a document type"),
        ('<?xml version="1.0" encoding="ut-8"?><annotations/>', "line 1 names an encoding that is not read"),
        ("<annotations>" + "<a>" * 1000 + "</a>" * 1000 + "</annotations>", "nests deeper than 32 elements"),
    ],
    ids=range(15),
)
def test_cvat_that_cannot_be_right_is_refused_with_its_line(content, message, data):
    save(data, "annotations.xml", content)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_xml_of_others_is_left_alone(data):
    save(data, "1.xml", "<annotation><filename>1.jpg</filename></annotation>")
    with pytest.raises(ConfigError, match="no annotated pictures below"):
        find_samples(data)
    save(data, "2.xml", '<?xml version="1.0"?><other/>')
    with pytest.raises(ConfigError, match=r"line 1: expected <annotations> of CVAT, got <other>"):
        find_samples(data, annotations=data / "2.xml", form="cvat")


def yolo(data: Path, text: str, yaml: str | None = None) -> None:
    save(data, "labels/1.txt", text)
    (data / "images").mkdir(exist_ok=True)
    for name in ("1.jpg", "2.jpg"):
        (data / name).rename(data / "images" / name)
    if yaml is not None:
        save(data, "data.yaml", yaml)


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


def test_files_that_macos_and_editors_leave_behind(data):
    save(data, "tasks.json", [task({}), task({}, image="2.jpg")])
    for name in ("._tasks.json", "._1.jpg", ".1.jpg"):
        (data / name).write_bytes(b"\0\x05\x16\x07")
    assert heads(data) == {"1.jpg": [[100, 50]], "2.jpg": [[100, 50]]}


def test_a_packed_export_is_to_be_unpacked(data):
    (data / "export.zip").write_bytes(b"PK\3\4")
    with pytest.raises(ConfigError, match=r"export\.zip has no annotations .*; unpack it first"):
        find_samples(data / "export.zip")


def test_captions_beside_pictures_are_no_labels(data):
    save(data, "1.txt", "two people on a bench")
    with pytest.raises(ConfigError, match="no annotated pictures below"):
        find_samples(data)


def labelme(*shapes: dict, **changes: Any) -> dict:
    whole = [{"label": "head", "shape_type": "point", "points": [[1, 2]], **shape} for shape in shapes]
    return {"shapes": whole, "imagePath": "1.jpg", "imageWidth": 200, "imageHeight": 100, "imageData": None, **changes}


def test_shapes_of_labelme(data, caplog):
    shapes = (
        {},
        {"shape_type": "circle", "points": [[10, 20], [15, 20]]},
        {"shape_type": "rectangle", "points": [[20, 30], [10, 10]]},
        {"shape_type": "polygon", "points": [[0, 0], [10, 0], [10, 6]]},
        {"shape_type": "linestrip", "points": [[0, 0], [10, 0]]},
    )
    save(data, "1.json", labelme(*shapes, imagePath="..\\photos\\1.jpg"))
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": [[1, 2], [10, 20], [15, 20], [5, 3]]}
    assert "left out shapes that are no heads: linestrip" in caplog.text


def test_labelme_pictures_of_one_name_in_two_folders(tmp_path):
    for folder, x in (("a", 5), ("b", 7)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", SIZE).save(tmp_path / folder / "1.jpg")
        save(tmp_path, f"{folder}/1.json", labelme({"points": [[x, 2]]}))
    assert {s.image.parent.name: s.points.tolist() for s in find_samples(tmp_path)} == {"a": [[5, 2]], "b": [[7, 2]]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme({"points": []}), r"1\.json, shapes\[0\] has no points"),
        (labelme({}, {"points": [[1]]}), r"1\.json, shapes\[1\]\.points\[0\] must be 2 numbers, got \[1\]"),
        (labelme({"points": [["1", 2]]}), r"shapes\[0\]\.points\[0\]\[0\] must be a number, got '1'"),
        (labelme({"label": 3}), r"shapes\[0\] must have 'label' of type str, got 3"),
        (labelme({"points": [[500, 2]]}), r"1\.json, shapes\[0\]: \(500, 2\) lies outside the picture of 200 x 100"),
        (labelme(imageWidth=100), r"1\.json: the picture was annotated at 100 x 100 pixels, but it has 200 x 100"),
        (labelme(imagePath="../../etc/passwd"), r"points of '\.\./\.\./etc/passwd', not in"),
    ],
)
def test_labelme_that_cannot_be_right_is_refused_with_its_key(content, message, data):
    save(data, "1.json", content)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def task(*results: dict, image: str = "1.jpg", **changes: Any) -> dict:
    point = {"type": "keypointlabels", "value": {"x": 50, "y": 50, "width": 0.5, "keypointlabels": ["head"]}}
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    annotation = {"id": 1, "result": [{"id": f"r{i}", **size, **point, **r} for i, r in enumerate(results)]}
    return {"id": 1, "data": {"image": image}, "annotations": [annotation], **changes}


def box(**value: Any) -> dict:
    return {"type": "rectanglelabels", "value": {"rectanglelabels": ["head"], **value}}


def test_shapes_of_label_studio(data, caplog):
    results = (
        {},
        box(x=10, y=20, width=20, height=40),
        # Turned clockwise by 90 degrees about its upper left corner: 40 wide and 40 high in pixels, now to the left.
        box(x=50, y=20, width=20, height=40, rotation=90),
        {"type": "ellipselabels", "value": {"x": 5, "y": 6, "radiusX": 1, "radiusY": 1, "ellipselabels": ["head"]}},
        {"type": "polygonlabels", "value": {"points": [[0, 0], [10, 0], [10, 50]], "polygonlabels": ["head"]}},
        {"type": "brushlabels", "value": {"rle": [1], "brushlabels": ["head"]}},
        {"type": "choices", "value": {"choices": ["day"]}},
    )
    save(data, "tasks.json", [task(*results)])
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(data) == {"1.jpg": [[100, 50], [40, 40], [80, 40], [10, 6], [10, 25]]}
    assert "left out results that are no heads: brushlabels" in caplog.text


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


def test_ucf_qnrf_as_published(tmp_path):
    for split, x in (("Train", 3.5), ("Test", 9)):
        (tmp_path / split).mkdir()
        Image.new("RGB", SIZE).save(tmp_path / split / "img_0001.jpg")
        savemat(tmp_path / split / "img_0001_ann.mat", {"annPoints": np.array([[x, 4.0]])})
    assert {s.split: s.points.tolist() for s in find_samples(tmp_path)} == {"train": [[3.5, 4]], "test": [[9, 4]]}
    assert [s.split for s in find_samples(tmp_path, "test")] == ["test"]
    Image.new("RGB", SIZE).save(tmp_path / "Train" / "img_0002.jpg")
    with pytest.raises(ConfigError, match=r"Train has no entry for img_0002\.jpg"):
        find_samples(tmp_path)


def test_beijing_brt_as_published(tmp_path):
    for folder in ("frame", "ground_truth"):
        (tmp_path / "train" / folder).mkdir(parents=True)
    for name, points in (("1-20160620091226", np.array([[3.5, 4.0]])), ("1-20160620091411", np.uint16([[9, 7]]))):
        Image.new("RGB", SIZE).save(tmp_path / "train" / "frame" / f"{name}.jpg")
        savemat(tmp_path / "train" / "ground_truth" / f"{name}.mat", {"loc": points})
    assert [s.points.tolist() for s in find_samples(tmp_path)] == [[[3.5, 4]], [[9, 7]]]
    Image.new("RGB", SIZE).save(tmp_path / "train" / "frame" / "2.jpg")
    with pytest.raises(ConfigError, match=r"ground_truth has no entry for 2\.jpg"):
        find_samples(tmp_path)


def test_published_points_outside_the_picture_are_left_out_and_told(tmp_path, caplog):
    Image.new("RGB", SIZE).save(tmp_path / "img_0001.jpg")
    savemat(tmp_path / "img_0001_ann.mat", {"annPoints": np.array([[5, 4], [300, 4.0]])})
    with caplog.at_level(logging.WARNING, logger="engine"):
        assert heads(tmp_path) == {"img_0001.jpg": [[5, 4]]}
    assert "img_0001_ann.mat: left out 1 points outside the picture" in caplog.text


@pytest.mark.parametrize("content", [b"", b"no MATLAB file", b"MATLAB 5.0 MAT-file" + b"\0" * 200])
def test_mat_files_that_are_none_are_refused(content, tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "img_0001.jpg")
    (tmp_path / "img_0001_ann.mat").write_bytes(content)
    with pytest.raises(ConfigError, match=r"img_0001_ann\.mat"):
        find_samples(tmp_path)


def test_nwpu_as_published(tmp_path, caplog):
    (tmp_path / "images").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", SIZE).save(tmp_path / "images" / f"000{number}.jpg")
    for number in (1, 2):
        one = {"img_id": f"000{number}.jpg", "human_num": 1, "points": [[number, 4.5]], "boxes": [[0, 0, 5, 5]]}
        save(tmp_path, f"jsons/000{number}.json", one)
    for split, line in (("train", "0001 0 1"), ("val", "0002 1 2"), ("test", "0003 0 0")):
        save(tmp_path, f"{split}.txt", f"{line}\n")
    with caplog.at_level(logging.WARNING, logger="engine"):
        found = {s.split: s.points.tolist() for s in find_samples(tmp_path)}
    assert found == {"train": [[1, 4.5]], "val": [[2, 4.5]]}
    assert [s.image.stem for s in find_samples(tmp_path, "val")] == ["0002"]
    assert "1 pictures beside those annotated are not in it; left out" in caplog.text
    save(tmp_path, "jsons/0001.json", {"img_id": "0001.jpg", "human_num": 2, "points": [[1, 2]]})
    with pytest.raises(ConfigError, match=r"0001\.json has 1 points, and says that there are 2 people"):
        find_samples(tmp_path)


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


VALID = {
    "points.csv": "image,x,y\n1.jpg,10.5,20\n2.jpg,5,6\n",
    "points.json": '{"1.jpg": [[10.5, 20]], "2.jpg": []}',
    "a.json": json.dumps(coco({"bbox": [10, 20, 30, 40]}, {"keypoints": [1, 2, 2]})),
    "1.json": json.dumps(labelme({}, {"shape_type": "rectangle", "points": [[1, 2], [3, 4]]})),
    "tasks.json": json.dumps([task({}, box(x=1, y=2, width=3, height=4, rotation=5))]),
    "annotations.xml": cvat(
        '<points label="head" points="10.5,20;30,40"/>', '<box label="a" xtl="0" ytl="1" xbr="2" ybr="3"/>'
    ),
    "labels/1.txt": "0 0.5 0.5 0.1 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.3\n",
    "data.yaml": "names: [a, b]\n",
}
PIECES = st.sampled_from(
    [b"\0", b"\xff", b"\xfe\xff", b"9e999", b"-1", b"NaN", b"{}", b"[]", b'"', b"<", b"&x;", b",", b";", b"\n"]
)


@pytest.mark.parametrize("name", VALID)
def test_damaged_files_are_read_or_refused(name, data, tmp_path_factory):
    """Nothing but our own error comes of any file."""
    valid = VALID[name].encode()

    @given(
        start=st.integers(0, len(valid)),
        length=st.integers(0, 20),
        pieces=st.lists(PIECES | st.binary(max_size=6), max_size=4),
    )
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def read_or_refused(start, length, pieces) -> None:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes(valid[:start] + b"".join(pieces) + valid[start + length :])
        try:
            samples = find_samples(data)
        except ConfigError:
            return
        for sample in samples:
            assert np.isfinite(sample.points).all()
            assert (np.abs(sample.points) <= 1.1 * max(SIZE)).all()

    read_or_refused()
