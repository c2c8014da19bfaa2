"""Zones drawn in annotation tools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.zones.inputs import as_layout, parse_layout
from engine.zones.tools import from_tool

GATE = [[10.0, 20.0], [110.0, 20.0], [60.0, 90.0]]
DOOR = [[0.0, 50.0], [200.0, 50.0]]


def labelme(*shapes: tuple[str, str, list], size=(200, 100)) -> dict:
    return {
        "version": "6.3.1",
        "flags": {},
        "shapes": [
            {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
            for label, kind, points in shapes
        ],
        "imagePath": "a.jpg",
        "imageData": None,
        "imageHeight": size and size[1],
        "imageWidth": size and size[0],
    }


def coco(*zones: tuple[str, list], images: int = 1) -> dict:
    names = sorted({name for name, _ in zones})
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in range(images)],
        "categories": [{"id": 5 + i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i % images, "category_id": 5 + names.index(name), "bbox": [0, 0, 1, 1],
             "segmentation": [np.ravel(outline).tolist() for outline in outlines]}
            for i, (name, outlines) in enumerate(zones)
        ],
    }  # fmt: skip


def read(data: dict, folder: Path):
    (folder / "zones.json").write_text(json.dumps(data), encoding="utf-8")
    return as_layout(folder / "zones.json")


def test_outlines_rectangles_and_lines_of_labelme(tmp_path):
    heads = ("head", "point", [[3, 4]])
    data = labelme(
        ("gate", "polygon", GATE), ("yard", "rectangle", [[20, 10], [40, 30]]), ("door", "line", DOOR), heads
    )
    layout = read(data, tmp_path)
    zones = layout.zone_corners((200, 100))
    assert zones.keys() == {"gate", "yard"}
    np.testing.assert_allclose(zones["gate"], GATE)
    np.testing.assert_allclose(zones["yard"], [[20, 10], [40, 10], [40, 30], [20, 30]])
    np.testing.assert_allclose(layout.line_ends((200, 100))["door"], DOOR)


def test_outlines_of_coco(tmp_path):
    layout = read(coco(("gate", [GATE]), ("yard", [np.array(GATE) + 1])), tmp_path)
    zones = layout.zone_corners((200, 100))
    np.testing.assert_allclose(zones["gate"], GATE)
    np.testing.assert_allclose(zones["yard"], np.array(GATE) + 1)


def test_they_fit_a_copy_of_another_size(tmp_path):
    layout = read(labelme(("gate", "polygon", GATE)), tmp_path)
    np.testing.assert_allclose(layout.zone_corners((400, 200))["gate"], 2 * np.array(GATE))


def test_without_a_size_they_are_pixels(tmp_path):
    layout = read(labelme(("gate", "polygon", GATE), size=None), tmp_path)
    np.testing.assert_allclose(layout.zone_corners((400, 200))["gate"], GATE)


@pytest.mark.parametrize(
    "data", [labelme(("gate", "polygon", GATE), ("gate", "polygon", GATE)), coco(("gate", [GATE, GATE]))]
)
def test_zones_of_one_name_are_numbered(data, tmp_path):
    assert list(read(data, tmp_path).zones) == ["gate 1", "gate 2"]


def test_a_corner_at_the_edge_is_moved_into_the_picture(tmp_path):
    layout = read(labelme(("gate", "polygon", [[-1, 0], [201, 0], [100, 101]])), tmp_path)
    assert layout.zone_corners((200, 100))["gate"].tolist() == [[0, 0], [200, 0], [100, 100]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (labelme(("gate", "polygon", [[0, 0], [205, 0], [0, 50]])), "'gate' lies outside the picture of 200 x 100"),
        (labelme(("gate", "linestrip", GATE)), r"shapes\[0\] is a 'linestrip'; zones are polygons or rectangles"),
        (labelme(("gate", "polygon", GATE[:2])), "zone 'gate'"),
        (labelme(("gate", "polygon", [[0, 0], ["x", 1], [2, 3]])), r"must have corners \[x, y\] in pixels"),
        (labelme(("gate", "polygon", [[0, 0], [1, 1, 1], [2, 3]])), r"must have corners \[x, y\] in pixels"),
        (labelme(*[(name, "polygon", GATE) for name in ("gate 1", "gate", "gate")]), "'gate 1' is there twice"),
        (labelme(("total", "polygon", GATE)), "stands for the whole picture"),
        ({"shapes": [{"points": []}], "imagePath": "a.jpg"}, r"shapes\[0\] must have a label"),
        ({"shapes": 1, "imagePath": "a.jpg"}, "shapes must be a list, got int"),
        (coco(("gate", [GATE]), ("gate", [GATE]), images=2), "drawn on 2 pictures; keep one"),
        ({**coco(("gate", [GATE])), "categories": []}, r"annotations\[0\] is of no category"),
        ({**coco(("gate", [GATE])), "images": []}, r"annotations\[0\] is of no picture"),
        (coco(("gate", [[1, 2, 3]])), "zone 'gate'"),
        ({"images": [{"id": []}], "annotations": []}, r"images\[0\]\.id must be a number or text, got list"),
        ({**coco(("gate", [GATE])), "categories": 5}, "categories must be a list, got int"),
        ({**coco(("gate", [GATE])), "categories": [{"id": {}}]}, r"categories\[0\]\.id must be a number or text"),
        ({"images": [], "annotations": [{"image_id": []}]}, r"annotations\[0\]\.image_id must be a number or text"),
        (labelme(("gate", "polygon", GATE), size=(10**400, 5)), "the picture's width must be a whole number of pixels"),
        (labelme(("gate", "polygon", GATE), size=(200, "100")), "the picture's height must be .*, got '100'"),
        (labelme(("gate", "polygon", GATE), size=(True, 100)), "the picture's width must be .*, got True"),
        (labelme(("gate", "\ud800", GATE)), r"shapes\[0\] is a '\\ud800'; zones are"),
        (labelme(("gate", ["polygon"], GATE)), r"shapes\[0\] is a \['polygon'\]; zones are"),
    ],
)  # fmt: skip
def test_what_is_no_zone_is_refused(data, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as refused:
        read(data, tmp_path)
    assert "zones.json" in str(refused.value)


def test_our_own_file_is_left_to_its_reader():
    assert from_tool({"zones": {"gate": GATE}}) is None
    assert from_tool([1]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FILES = (
    labelme(("gate", "polygon", GATE), ("yard", "rectangle", [[20, 10], [40, 30]]), ("door", "line", DOOR)),
    coco(("gate", [GATE]), ("yard", [GATE])),
    {"unit": "pixels", "zones": {"gate": GATE}, "lines": {"door": DOOR}, "alerts": {"gate": {"high": 5, "low": 4}}},
)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_a_file_has_in_a_place_it_is_a_layout_or_refused(data: st.DataObject) -> None:
    whole = json.loads(json.dumps(data.draw(st.sampled_from(FILES))))
    part = whole
    while True:
        keys = list(part) if isinstance(part, dict) else range(len(part))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(part[key], dict | list) or not part[key] or data.draw(st.booleans()):
            break
        part = part[key]
    part[key] = data.draw(JSON)
    # What a file's text would say.
    try:
        layout = parse_layout(json.dumps(whole).encode(), "zones.json")
    except ConfigError as error:
        str(error).encode()
    else:
        assert all(np.isfinite(corners).all() for corners in layout.zone_corners((200, 100)).values())
