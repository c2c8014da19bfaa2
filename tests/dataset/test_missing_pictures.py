"""A picture that is missing is told, and its labels go to no other picture of that name."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotation_files import SIZE, labelme, save, task
from PIL import Image

from engine.dataset.samples import find_samples
from engine.errors import ConfigError


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(root / name)
    return root


def coco(*names: str) -> dict:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": [{"id": 1, "image_id": 0, "bbox": [1, 1, 4, 4]}]}


def found(root: Path, **options) -> list[str]:
    return [s.image.relative_to(root).as_posix() for s in find_samples(root, **options) if len(s.points)]


LINE = "0 0.5 0.5 0.1 0.1\n"


@pytest.mark.parametrize(
    ("there", "labels"),
    [
        ("images/val/1.jpg", "labels/train/1.txt"),
        ("images/cam2/1.jpg", "labels/cam1/1.txt"),
        ("images/1.jpg", "labels/cam1/1.txt"),
        ("other/images/1.jpg", "labels/1.txt"),
        ("valid/images/1.jpg", "train/labels/1.txt"),
    ],
)
def test_yolo_labels_whose_picture_is_not_where_it_must_be(there, labels, tmp_path):
    pictures(tmp_path, there)
    save(tmp_path, labels, LINE)
    (tmp_path / labels).parents[1].joinpath("images").mkdir(exist_ok=True)
    if "train/labels" in labels:
        (tmp_path / "train" / "images").mkdir(exist_ok=True)
    with pytest.raises(ConfigError, match=r"1\.txt has points of '.*images.*1', not in"):
        find_samples(tmp_path)


def test_yolo_labels_without_a_picture_beside_the_others(tmp_path):
    pictures(tmp_path, "a/1.jpg", "b/2.jpg")
    save(tmp_path, "a/1.txt", LINE)
    assert found(tmp_path) == ["a/1.jpg"]
    save(tmp_path, "obj.names", "head\n")
    save(tmp_path, "a/2.txt", LINE)
    with pytest.raises(ConfigError, match=r"2\.txt has points of 'a/2', not in"):
        find_samples(tmp_path)


@pytest.mark.parametrize(
    ("names", "there", "message"),
    [
        (["train/1.jpg", "train/2.jpg"], ["train/2.jpg", "val/1.jpg"], r"'train/1\.jpg', which is not in .*train;"),
        (["cam1/1.jpg"], ["cam1/2.jpg", "cam2/1.jpg"], r"'cam1/1\.jpg', which is not in .*cam1; .*cam2/1\.jpg is anot"),
        (["/home/me/cam1/1.jpg"], ["a/cam1/2.jpg", "1.jpg"], r"which is not in .*a/cam1; .*/1\.jpg is another picture"),
        (["images/1.jpg"], ["images/2.jpg", "1.jpg"], r"'images/1\.jpg', which is not in .*images; .*/1\.jpg is"),
        (["train/1.jpg"], ["val2017/1.jpg"], r"'train/1\.jpg', which is not in the split 'train'"),
        (["cam1/1.jpg", "cam2/2.jpg"], ["cam2/1.jpg", "cam2/2.jpg"], r"'cam1/1\.jpg', whose folder is not there"),
    ],
)
def test_a_picture_of_another_folder_is_not_the_one_that_was_named(names, there, message, tmp_path):
    save(pictures(tmp_path, *there), "annotations/all.json", coco(*names))
    with pytest.raises(ConfigError, match=message):
        find_samples(tmp_path)


def test_a_folder_that_has_become_empty_lacks_the_picture(tmp_path):
    save(pictures(tmp_path, "cam2/1.jpg"), "all.json", coco("cam1/1.jpg"))
    (tmp_path / "cam1").mkdir()
    with pytest.raises(ConfigError, match=r"which is not in .*cam1; .*cam2/1\.jpg is another picture of that name"):
        find_samples(tmp_path)


def test_the_file_says_the_split_of_its_pictures(tmp_path):
    save(pictures(tmp_path, "train2017/1.jpg"), "annotations/instances_val2017.json", coco("1.jpg"))
    with pytest.raises(ConfigError, match=r"'1\.jpg', which is not in the split 'val'"):
        find_samples(tmp_path)
    # As Roboflow lays its exports out.
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    save(tmp_path, "valid/_annotations.coco.json", coco("1.jpg"))
    with pytest.raises(ConfigError, match=r"'1\.jpg', which is not in the split 'val'"):
        find_samples(tmp_path)


def test_a_file_beside_pictures_is_of_these(tmp_path):
    save(pictures(tmp_path, "cam1/2.jpg", "cam2/1.jpg"), "cam1/all.json", coco("1.jpg"))
    with pytest.raises(ConfigError, match=r"'1\.jpg', which is not in .*cam1"):
        find_samples(tmp_path)
    (tmp_path / "cam1" / "all.json").unlink()
    save(pictures(tmp_path, "3.jpg", "old/1.jpg"), "1.json", labelme({}, imagePath="1.jpg"))
    with pytest.raises(ConfigError, match=r"1\.json has points of '1\.jpg', not in"):
        find_samples(tmp_path)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("1.jpg", "deep/in/1.jpg"),
        ("/home/test/project/1.jpg", "photos/1.jpg"),
        ("C:\\Users\\me\\cam1\\1.jpg", "cam1/1.jpg"),
        ("train/1.jpg", "train/images/1.jpg"),
        ("images/1.jpg", "1.jpg"),
        ("cam9/1.jpg", "photos/1.jpg"),
    ],
)
def test_names_alone_and_folders_of_other_machines_find_their_picture(name, there, tmp_path):
    save(pictures(tmp_path, there), "annotations/all.json", coco(name))
    assert found(tmp_path) == [there]


def test_labels_and_pictures_in_folders_of_other_names(tmp_path):
    # As Darknet and CVAT lay them out.
    save(pictures(tmp_path, "JPEGImages/1.jpg"), "labels/1.txt", LINE)
    assert found(tmp_path) == ["JPEGImages/1.jpg"]
    (tmp_path / "labels" / "1.txt").unlink()
    save(tmp_path, "obj.names", "head\n")
    save(tmp_path, "obj_train_data/1.txt", LINE)
    assert found(tmp_path) == ["JPEGImages/1.jpg"]


@pytest.mark.parametrize("name", ["a #1.jpg", "what?.jpg", "100%25.jpg", "a;b.jpg", "0badcafe-1.jpg", "x//a #1.jpg"])
def test_label_studio_names_are_paths_as_they_stand(name, tmp_path):
    pictures(tmp_path, name, "a .jpg", "what.jpg", "100%.jpg", "a.jpg", "1.jpg")
    save(tmp_path, "annotations/tasks.json", [task({}, image=name)])
    assert found(tmp_path) == [name.replace("//", "/")]


def test_addresses_of_label_studio_are_decoded_where_they_do_not_stand_so(tmp_path):
    pictures(tmp_path, "a b/1.jpg", "c/1.jpg", "c/%31.jpg")
    for image, there in (("/data/a%20b/1.jpg", "a b/1.jpg"), ("http://h/c/%31.jpg", "c/%31.jpg"),
                         ("s3://bucket/c/1.jpg", "c/1.jpg"), ("/data/local-files/?d=a%20b/1.jpg", "a b/1.jpg"),
                         ("http://[h/c/1.jpg", "c/1.jpg")):  # fmt: skip
        save(tmp_path, "annotations/tasks.json", [task({}, image=image)])
        assert found(tmp_path) == [there], image
    (tmp_path / "c" / "1.jpg").unlink()
    save(tmp_path, "annotations/tasks.json", [task({}, image="c/1.jpg")])
    with pytest.raises(ConfigError, match=r"which is not in .*c; .*a b/1\.jpg is another picture"):
        find_samples(tmp_path)


def test_a_name_of_thousands_of_folders_is_found_at_once(tmp_path):
    save(pictures(tmp_path, "1.jpg"), "all.json", coco("x/" * 200_000 + "1.jpg"))
    assert found(tmp_path) == ["1.jpg"]
