"""Values of another type than expected, in every place of every JSON format."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from annotation_files import box, coco, heads, labelme, save, task

from engine.dataset.samples import find_samples
from engine.errors import ConfigError

CATEGORY = {"id": 1, "name": "head", "keypoints": ["head"], "supercategory": "person"}
FILES = {
    "points.json": {"1.jpg": [[10.5, 20], [3, 4]], "2.jpg": []},
    "a.json": coco({"bbox": [10, 20, 30, 40], "iscrowd": 0}, {"keypoints": [1, 2, 2]},
                   {"segmentation": [[1, 2, 3, 4]]}, categories=[CATEGORY]),
    "1.json": labelme({}, {"shape_type": "rectangle", "points": [[1, 2], [3, 4]]}),
    "tasks.json": [task({}, box(x=1, y=2, width=3, height=4, rotation=5),
                        {"type": "labels", "value": {"x": 1, "y": 1, "labels": ["head"]}})],
    "jsons/1.json": {"img_id": "1.jpg", "human_num": 1, "points": [[1, 2]]},
}  # fmt: skip
OTHER = [None, True, "", "7", [], [1], {}, {"a": 1}, [[1, 2]], -1, 0.5, 2**70, 10**400]


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path to every value within a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


def with_value(content: Any, path: tuple, value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(content)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize("name", FILES)
def test_values_of_another_type_are_read_or_refused(name, data):
    for path in places(FILES[name]):
        for value in OTHER:
            save(data, name, with_value(FILES[name], path, value))
            try:
                samples = find_samples(data)
            except ConfigError:
                continue
            assert all(np.isfinite(s.points).all() for s in samples), (path, value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco({"bbox": [1, 2, 3, 4], "category_id": [1]}), r"annotations\[0\] must have 'category_id' of type int"),
        (coco({"bbox": [1, 2, 3, 4], "category_id": True}), r"annotations\[0\] must have 'category_id' of type int"),
        (coco({"bbox": [1, 2, 3, 4], "image_id": [1]}), r"annotations\[0\] must have 'image_id' of type int"),
        (coco({"bbox": [1, 2, 3, 4], "image_id": True}), r"annotations\[0\] must have 'image_id' of type int"),
        (coco({"bbox": [1, 2, 3, 10**400]}), r"annotations\[0\]\.bbox\[3\] must be a number"),
        (coco(categories=[{"id": {}, "name": "head"}]), r"categories\[0\] must have 'id' of type int"),
        ({**coco(), "categories": {"id": 1}}, "must have 'categories' of type list"),
        ({**coco(), "images": [{"id": 1, "file_name": "1.jpg", "width": "200", "height": 100}]},
         r"images\[0\], width must be a number, got '200'"),
        ({**coco(), "images": [{"id": 1, "file_name": "1.jpg", "width": 200, "height": 99.5}]},
         r"images\[0\], height must be a whole number of pixels, got 99.5"),
    ],
)  # fmt: skip
def test_ids_and_sizes_of_another_type_are_refused_with_their_key(content, message, data):
    save(data, "a.json", content)
    with pytest.raises(ConfigError, match=message):
        find_samples(data)


def test_sizes_may_have_a_decimal_point(data):
    content = coco({"bbox": [1, 2, 4, 4]})
    for image in content["images"]:
        image["width"] = 200.0
    save(data, "a.json", content)
    assert heads(data)["1.jpg"] == [[3, 4]]


@pytest.mark.parametrize("rows", [[["1", "2"]], [[True, False]], [[]], [[1, True]], [{"x": 1}], {"x": 1}, 5])
def test_points_that_are_no_numbers_are_refused(rows, data):
    save(data, "points.json", {"1.jpg": rows, "2.jpg": []})
    with pytest.raises(ConfigError, match=r"points\.json, 1\.jpg: points must be pairs"):
        find_samples(data)
