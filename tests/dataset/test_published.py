"""Data sets in the layouts in which they were published."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from annotation_files import SIZE, heads, save
from PIL import Image
from scipy.io import savemat

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


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
@pytest.mark.parametrize("name", ["img_0001_ann.mat", "ground-truth/GT_img_0001.mat"])
def test_mat_files_that_are_none_are_refused(content, name, tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "img_0001.jpg")
    save(tmp_path, name, "")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"{name} is no MATLAB file"):
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


def test_the_field_location_is_read_wherever_it_stands(tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "IMG_1.jpg")
    (tmp_path / "ground-truth").mkdir()
    info = np.empty((1, 1), [("number", object), ("location", object)])
    # The number looks like a point.
    info[0, 0] = (np.array([[7.0, 7.0]]), np.array([[1.5, 2], [3, 4]]))
    cell = np.empty((1, 1), object)
    cell[0, 0] = info
    savemat(tmp_path / "ground-truth" / "GT_IMG_1.mat", {"image_info": cell})
    assert heads(tmp_path) == {"IMG_1.jpg": [[1.5, 2], [3, 4]]}
    cell[0, 0] = np.array([[1.5, 2]])
    savemat(tmp_path / "ground-truth" / "GT_IMG_1.mat", {"image_info": cell})
    with pytest.raises(ConfigError, match="ShanghaiTech's layout"):
        find_samples(tmp_path)


def test_letters_in_the_place_of_points_are_refused(tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "img_0001.jpg")
    savemat(tmp_path / "img_0001_ann.mat", {"annPoints": np.array([["1", "2"]])})
    with pytest.raises(ConfigError, match=r"img_0001_ann\.mat: points must be pairs of numbers .* an array of"):
        find_samples(tmp_path)
