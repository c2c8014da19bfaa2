"""LabelMe: what its files mean, and what in them cannot be right."""

from __future__ import annotations

import logging

import pytest
from annotation_files import SIZE, heads, labelme, save
from PIL import Image

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


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
    assert "left out shapes that are no heads: linestrip\n" in caplog.text


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
