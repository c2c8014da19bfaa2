"""Annotated pictures in each of the layouts that are read."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from engine.dataset.samples import Sample, find_samples
from engine.dataset.splits import split_of_file, split_of_folders
from engine.errors import ConfigError

POINTS = np.array([[1.5, 2.25], [30.0, 4.0], [7.0, 8.0]])
EXAMPLE = Path(__file__).parents[2] / "examples" / "pictures"


def make_images(folder: Path, *names: str) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in names:
        (folder / "images" / name).touch()
    return folder


def write_mat(path: Path, points: np.ndarray) -> None:
    """ShanghaiTech's file: a 1x1 cell with a 1x1 struct of location and number."""
    path.parent.mkdir(exist_ok=True)
    info = np.empty((1, 1), [("location", object), ("number", object)])
    info[0, 0] = (points, np.array([[len(points)]]))
    cell = np.empty((1, 1), object)
    cell[0, 0] = info
    savemat(path, {"image_info": cell})


@pytest.mark.parametrize("points_folder", ["ground-truth", "ground_truth"])
def test_shanghaitech_layout(tmp_path, points_folder):
    for part, count in (("part_A", 3), ("part_B", 0)):
        folder = make_images(tmp_path / part / "train_data", "IMG_12.jpg", "IMG_3.jpg", "readme.txt")
        for name in ("IMG_12", "IMG_3"):
            write_mat(folder / points_folder / f"GT_{name}.mat", POINTS[:count])
    samples = find_samples(tmp_path)
    assert [(s.part, s.image.name, s.number) for s in samples] == [
        ("part_A", "IMG_12.jpg", 12),
        ("part_A", "IMG_3.jpg", 3),
        ("part_B", "IMG_12.jpg", 12),
        ("part_B", "IMG_3.jpg", 3),
    ]
    np.testing.assert_array_equal(samples[0].points, POINTS.astype(np.float32))
    assert samples[0].points.dtype == np.float32
    assert samples[2].points.shape == (0, 2)


def test_the_part_is_named_when_the_folder_given_lies_within_it(tmp_path):
    folder = make_images(tmp_path / "part_B" / "test_data", "IMG_1.jpg")
    (folder / "points.json").write_text('{"IMG_1.jpg": []}')
    assert [s.part for s in find_samples(folder)] == ["part_B"]


def test_pictures_for_testing_are_told_from_the_others(tmp_path):
    for part in ("part_A", "part_B"):
        for split in ("train_data", "test_data"):
            folder = make_images(tmp_path / part / split, "IMG_1.jpg")
            (folder / "points.json").write_text('{"IMG_1.jpg": []}')
    found = {split: find_samples(tmp_path, split) for split in (None, "train", "test")}
    assert [s.part for s in found[None]] == ["part_A", "part_A", "part_B", "part_B"]
    assert [s.split for s in found[None]] == ["test", "train", "test", "train"]
    for split in ("train", "test"):
        assert [s.part for s in found[split]] == ["part_A", "part_B"]
        assert {s.image.parents[1].name for s in found[split]} == {f"{split}_data"}
    assert len(find_samples(tmp_path, ["train", "test"])) == 4
    # Whichever folder is named.
    assert find_samples(tmp_path / "part_A" / "test_data", "test")[0].part == "part_A"
    with pytest.raises(ConfigError, match="no annotated pictures of the split train below") as refused:
        find_samples(tmp_path / "part_A" / "test_data", "train")
    assert "test_data, but folders of test; ask for another split" in str(refused.value)
    with pytest.raises(ConfigError, match="but folders of test and train; ask for another split"):
        find_samples(tmp_path, "val")
    mixed = make_images(tmp_path / "mixed", "1.jpg", "2.jpg")
    (mixed / "points.json").write_text('{"1.jpg": [], "2.jpg": []}')
    with pytest.raises(ConfigError, match=r"mixed has no annotated pictures of the split val, but of train \(2\)"):
        find_samples(tmp_path / "mixed", "val")
    # An own folder may lie anywhere.
    mine = make_images(tmp_path / "test_data" / "mine", "IMG_1.jpg")
    (mine / "points.json").write_text('{"IMG_1.jpg": []}')
    assert len(find_samples(mine, "train")) == 1


@pytest.mark.parametrize(
    ("words", "split"),
    [
        (("test", "testing", "test_data"), "test"),
        (("val", "valid", "validation", "val_data"), "val"),
        (("train", "training", "train_data"), "train"),
        (("contest", "validity"), None),
    ],
)
def test_words_that_name_a_split(words, split, tmp_path):
    for word in words:
        assert split_of_folders(["test" if split == "train" else "train", f"{word.title()}2017", "images"]) == (
            split or "train"
        )
        for name in (f"instances_{word}2017.json", f"{word}.csv"):
            (tmp_path / name).touch()
            assert split_of_file(tmp_path / name) == (None if word.endswith("data") else split)
        (tmp_path / word).mkdir()
        assert split_of_file(tmp_path / word) is None


def test_points_json(tmp_path):
    folder = make_images(tmp_path / "mine", "b.PNG", "a.jpg")
    (folder / "points.json").write_text(json.dumps({"a.jpg": POINTS.tolist(), "b.PNG": []}))
    first, second = find_samples(folder)
    assert (first.image.name, second.image.name, first.part) == ("a.jpg", "b.PNG", "mine")
    np.testing.assert_array_equal(first.points, POINTS.astype(np.float32))
    assert second.points.shape == (0, 2)


def test_points_csv_of_a_picture_without_rows_is_empty(tmp_path):
    folder = make_images(tmp_path, "a.jpg", "b.jpg")
    # With the mark that spreadsheet programs put in front, and columns in another order.
    (folder / "points.csv").write_text("\ufeffy,image,x\n2,a.jpg,1\n4.5,a.jpg,3\n", encoding="utf-8")
    first, second = find_samples(folder)
    np.testing.assert_array_equal(first.points, np.float32([[1, 2], [3, 4.5]]))
    assert second.points.shape == (0, 2)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("points.json", '{"other.jpg": []}', r"points of 'other.jpg', not in .*suffix included"),
        ("points.json", "{}", "no entry for a.jpg; every picture needs its points"),
        ("points.json", '{"a.jpg": [[1, 2, 3]]}', r"pairs .* shape \(1, 3\)"),
        ("points.json", '{"a.jpg": [[1, 2], [3]]}', "pairs of numbers"),
        ("points.json", '{"a.jpg": [["x", "y"]]}', "pairs of numbers"),
        ("points.json", "[[1, 2]]", "got a list"),
        ("points.json", "not json", "is not JSON"),
        ("points.csv", "a.jpg,1,2\n", "header image,x,y"),
        ("points.csv", "", "header image,x,y"),
        ("points.csv", "image,x,y\na.jpg,1\n", "pairs of numbers"),
        ("points.csv", "image,x,y\na.jpg,1,2\na,3,4\n", r"a\.jpg is annotated twice: in .*points\.csv"),
        (
            "points.csv",
            "image,x,y\nimages/A.jpg,1,2\nA.JPG,3,4\n",
            r"'A\.JPG', 'images/A\.jpg', not in .*2 such",
        ),
        ("points.csv", "x,y,image\n1,2\n3,4,b.jpg\n", "line 2 has 2 values where the header has 3"),
        ("points.csv", "sep=;\nimage;x;y\na.jpg;1\n", "line 3 has 2 values where the header has 3"),
        ("points.csv", 'image,x,y\n"a.jp"g,1,2\n', "line 2: ',' expected after '\"'"),
    ],
)
def test_points_that_cannot_be_read_are_refused(tmp_path, name, text, message):
    (make_images(tmp_path, "a.jpg") / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        find_samples(tmp_path)


def test_a_missing_mat_file_is_named(tmp_path):
    folder = make_images(tmp_path, "IMG_1.jpg")
    (folder / "ground-truth").mkdir()
    with pytest.raises(ConfigError, match=r"ground-truth has no entry for IMG_1\.jpg; every picture needs its points"):
        find_samples(tmp_path)


def test_a_mat_file_of_another_layout_is_refused(tmp_path):
    folder = make_images(tmp_path, "IMG_1.jpg")
    (folder / "ground-truth").mkdir()
    savemat(folder / "ground-truth" / "GT_IMG_1.mat", {"points": POINTS})
    with pytest.raises(ConfigError, match="ShanghaiTech's layout"):
        find_samples(tmp_path)


def test_folders_without_a_data_set(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        find_samples(tmp_path / "missing")
    with pytest.raises(ConfigError, match="no annotated pictures below"):
        find_samples(tmp_path)
    make_images(tmp_path, "a.jpg")
    with pytest.raises(ConfigError, match="no points"):
        find_samples(tmp_path)


@pytest.mark.parametrize(
    ("name", "number"), [("IMG_120.jpg", 120), ("2024_7x.png", 7), ("hall.jpg", zlib.crc32(b"hall"))]
)
def test_number_of_a_picture(name, number):
    assert Sample(Path(name), np.zeros((0, 2), np.float32), "").number == number


def test_the_example_is_a_data_set_with_every_head_inside_its_picture():
    from PIL import Image

    (sample,) = find_samples(EXAMPLE)
    with Image.open(sample.image) as image:
        size = image.size
    assert len(sample.points) == 9
    assert ((sample.points >= 0) & (sample.points < size)).all()


def test_every_format_that_is_counted_is_read_here_too(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.TIF", "b.gif", "c.avif", "d.txt"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "points.json").write_text('{"a.TIF": [[1, 2]], "b.gif": [], "c.avif": [[3, 4]]}')
    assert [s.image.name for s in find_samples(tmp_path)] == ["a.TIF", "b.gif", "c.avif"]


@pytest.mark.parametrize(
    ("name", "text"), [("points.json", '{"a.jpg": [], "b.jxl": [[1, 2]]}'), ("points.csv", "image,x,y\nb.jxl,1,2\n")]
)
def test_points_of_a_picture_that_is_not_read_are_refused(name, text, tmp_path):
    (tmp_path / "images").mkdir()
    for picture in ("a.jpg", "b.jxl"):
        (tmp_path / "images" / picture).touch()
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"points of b\.jxl, which is not read as a picture; expected one of \.avif"):
        find_samples(tmp_path)


def test_a_part_may_be_a_link(tmp_path):
    for root, part in ((tmp_path / "data", "part_A"), (tmp_path / "elsewhere", "part_B")):
        (root / part / "images").mkdir(parents=True)
        (root / part / "images" / "a.jpg").touch()
        (root / part / "points.json").write_text('{"a.jpg": []}')
    (tmp_path / "data" / "part_B").symlink_to(tmp_path / "elsewhere" / "part_B")
    assert [s.part for s in find_samples(tmp_path / "data")] == ["part_A", "part_B"]
