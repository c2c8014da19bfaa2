"""Annotations that are written come back as the same heads, through our readers and through the tools' libraries."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import annotation_tools as tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.dataset.formats import FORMATS
from engine.dataset.samples import find_samples
from engine.dataset.writer import annotation_writer, format_of, is_folder
from engine.errors import ConfigError

# Half of what the last digit that is written stands for, in pixels; YOLO's are shares.
WITHIN = 0.00051
SUFFIXES = {"coco": ".json", "cvat": ".xml", "label-studio": ".json", "points-json": ".json", "points-csv": ".csv"}


def write(folder: Path, form: str, heads=tools.HEADS, pictures: Path | None = None, box: float = 16) -> Path:
    """Annotations of the pictures in ``pictures``, by default ``folder / "photos"``."""
    pictures = pictures or folder / "photos"
    path = folder / f"annotations{SUFFIXES.get(form, '')}"
    paths = {name: str(pictures / name) for name in heads}
    with annotation_writer(path, form, list(paths.values()), box) as write_one:
        for name, points in heads.items():
            with Image.open(paths[name]) as image:
                write_one(paths[name], image.size, np.array(points, np.float32).reshape(-1, 2))
    return path


ALL = pytest.mark.parametrize("form", FORMATS)


@ALL
def test_what_is_written_is_read(form, tmp_path):
    tools.make_pictures(tmp_path / "photos")
    path = write(tmp_path, form)
    samples = find_samples(tmp_path / "photos", annotations=path, form=form)
    # A picture without people has no file of UCF-QNRF's and others' that says so, but an empty one.
    assert {s.image.name for s in samples} == set(tools.SIZES)
    for sample in samples:
        points = np.reshape(tools.HEADS[sample.image.name], (-1, 2))
        np.testing.assert_allclose(sample.points, points, atol=WITHIN)


@ALL
def test_the_format_is_recognised(form, tmp_path):
    tools.make_pictures(tmp_path / "photos")
    path = write(tmp_path, form)
    assert len(find_samples(tmp_path / "photos", annotations=path)) == len(tools.SIZES)


@ALL
def test_pictures_of_one_name_in_several_folders(form, tmp_path):
    for number, folder in enumerate(("a", "b", "b/a")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.new("RGB", (50, 40 + number)).save(tmp_path / "photos" / folder / "1.jpg")
    heads = {"a/1.jpg": [[5, 7]], "b/1.jpg": [[30, 3], [8, 8]], "b/a/1.jpg": []}
    path = write(tmp_path, form, heads)
    samples = find_samples(tmp_path / "photos", annotations=path)
    found = {s.image.relative_to(tmp_path / "photos").as_posix(): s.points.round(3).tolist() for s in samples}
    assert found == heads


POINTS = st.lists(st.tuples(st.floats(0, 50, width=32), st.floats(0, 40, width=32)), max_size=20)


@pytest.mark.parametrize("form", sorted(set(FORMATS) - {"shanghaitech", "ucf-qnrf", "beijing-brt"}))
def test_any_points_come_back(form, tmp_path_factory):
    pictures = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (50, 40)).save(pictures / "1.png")

    @given(points=POINTS)
    @settings(max_examples=40, deadline=None)
    def comes_back(points) -> None:
        path = write(tmp_path_factory.mktemp("written"), form, {"1.png": points}, pictures)
        # Points that all lie in the first pixel of the picture look like fractions; the other formats have these.
        near = all(x <= 1 and y <= 1 for x, y in points)
        if points and near and form not in ("yolo", "label-studio"):
            return
        (sample,) = find_samples(pictures, annotations=path, form=form)
        np.testing.assert_allclose(sample.points, np.reshape(points, (-1, 2)), atol=WITHIN)

    comes_back()


@pytest.mark.parametrize("form", ["labelme", "yolo", "ucf-qnrf", "shanghaitech", "nwpu", "beijing-brt"])
def test_files_that_are_there_are_not_overwritten(form, tmp_path):
    tools.make_pictures(tmp_path / "photos")
    write(tmp_path, form)
    with pytest.raises(ConfigError, match=r"is there already \(3 such files\), and may have been corrected by hand"):
        write(tmp_path, form)


def test_another_data_sets_description_is_not_replaced(tmp_path):
    tools.make_pictures(tmp_path / "photos")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "data.yaml").write_text("names: [car, head]\n")
    with pytest.raises(ConfigError, match=r"data\.yaml is of other annotations"):
        write(tmp_path, "yolo")


def test_pictures_that_would_share_a_file_are_refused(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"1\.jpg and .*1\.png would share one file of annotations, .*1\.json"),
        annotation_writer(tmp_path / "out", "labelme", ["1.jpg", "1.png"], 16),
    ):
        pass


def test_what_was_counted_is_kept_when_a_job_is_stopped(tmp_path):
    path = tmp_path / "coco.json"
    with contextlib.suppress(KeyboardInterrupt), annotation_writer(path, "coco", ["a/1.jpg", "a/2.jpg"], 16) as one:
        one("a/1.jpg", (50, 40), np.float32([[1, 2]]))
        raise KeyboardInterrupt
    assert [image["file_name"] for image in json.loads(path.read_text())["images"]] == ["1.jpg"]


@pytest.mark.parametrize("form", ["coco", "labelme"])
def test_a_file_that_cannot_be_written_whole_is_not_there(form, tmp_path, monkeypatch):
    tools.make_pictures(tmp_path / "photos")

    def write_half(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="full"):
        write(tmp_path, form)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == set(tools.SIZES)


@pytest.mark.parametrize(
    ("name", "form"), [("a.json", "coco"), ("a.XML", "cvat"), ("a.csv", "points-csv"), ("out", None), ("a.txt", None)]
)
def test_the_suffix_says_the_format(name, form):
    assert format_of(Path(name), "nwpu") == "nwpu"
    if form is None:
        with pytest.raises(ConfigError, match=r"cannot tell from .*; end it in \.json, \.xml, \.csv, or give"):
            format_of(Path(name), None)
    else:
        assert format_of(Path(name), None) == form
        assert not is_folder(form)


def test_boxes_lie_within_the_picture_around_the_heads(tmp_path):
    tools.make_pictures(tmp_path / "photos")
    data = json.loads(write(tmp_path, "coco", {"IMG_1.jpg": [[100, 100], [310, 5], [320, 240]]}).read_text())
    assert [a["bbox"] for a in data["annotations"]] == [[92, 92, 16, 16], [302, 0, 16, 10], [319.5, 239.5, 1, 1]]


def test_pycocotools_reads_ours(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools comes with the formats extra")
    from pycocotools.coco import COCO

    tools.make_pictures(tmp_path / "photos")
    coco = COCO(str(write(tmp_path, "coco")))
    for image in coco.imgs.values():
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"], catIds=coco.getCatIds(catNms=["head"])))
        points = np.reshape([a["keypoints"][:2] for a in found], (-1, 2))
        np.testing.assert_allclose(points, np.reshape(tools.HEADS[image["file_name"]], (-1, 2)), atol=WITHIN)


def centres(detections) -> np.ndarray:
    boxes = np.reshape(detections.xyxy, (-1, 4))
    return (boxes[:, :2] + boxes[:, 2:]) / 2


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_supervision_reads_ours(form, tmp_path):
    supervision = pytest.importorskip("supervision", reason="supervision comes with the dev extra")
    tools.make_pictures(tmp_path / "photos")
    path, photos = write(tmp_path, form), str(tmp_path / "photos")
    if form == "coco":
        data = supervision.DetectionDataset.from_coco(photos, str(path))
    else:
        data = supervision.DetectionDataset.from_yolo(photos, str(path / "labels"), str(path / "data.yaml"))
    assert data.classes == ["head"]
    assert {Path(picture).name for picture in data.image_paths} == set(tools.SIZES)
    for picture, detections in data.annotations.items():
        points = np.reshape(tools.HEADS[Path(picture).name], (-1, 2))
        np.testing.assert_allclose(centres(detections), points, atol=0.001)


@pytest.mark.parametrize(("form", "kind"), [("coco", "coco_person_keypoints"), ("cvat", "cvat")])
def test_datumaro_reads_ours(form, kind, tmp_path):
    datumaro = pytest.importorskip("datumaro", reason="datumaro comes with the formats extra")
    tools.make_pictures(tmp_path / "data" / "images")
    path = write(tmp_path / "data", form, pictures=tmp_path / "data" / "images")
    if form == "coco":
        # It reads keypoints from files of this name.
        (tmp_path / "data" / "annotations").mkdir()
        path.rename(tmp_path / "data" / "annotations" / "person_keypoints_default.json")
    found = {}
    for item in datumaro.Dataset.import_from(str(tmp_path / "data"), kind):
        shapes = [a for a in item.annotations if a.type == datumaro.AnnotationType.points]
        found[item.id] = sorted(tuple(shape.points[:2]) for shape in shapes)
    assert found.keys() == {Path(name).stem for name in tools.SIZES}
    for name, heads in tools.HEADS.items():
        points = np.reshape(found[Path(name).stem], (-1, 2))
        np.testing.assert_allclose(points, np.reshape(sorted(heads), (-1, 2)), atol=0.01)


def test_labelme_reads_ours(tmp_path):
    label_file = pytest.importorskip("labelme._label_file", reason="labelme comes with the formats extra")
    tools.make_pictures(tmp_path / "photos")
    path = write(tmp_path, "labelme")
    for name, heads in tools.HEADS.items():
        data = label_file.read_label_file(str(path / f"{Path(name).stem}.json"))
        assert Path(data.image_path).name == name
        points = np.reshape([shape["points"][0] for shape in data.shapes], (-1, 2))
        np.testing.assert_allclose(points, np.reshape(heads, (-1, 2)), atol=WITHIN)


def test_label_studio_reads_ours(tmp_path):
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="it comes with the formats extra")
    from label_studio_sdk.label_interface.objects import TaskValue

    tools.make_pictures(tmp_path / "photos")
    checker = interface.LabelInterface(
        '<View><Image name="image" value="$image"/>'
        '<KeyPointLabels name="head" toName="image"><Label value="head"/></KeyPointLabels></View>'
    )
    for task in json.loads(write(tmp_path, "label-studio").read_text(encoding="utf-8")):
        (annotation,) = task["annotations"]
        assert all(checker.validate_region(region) for region in annotation["result"])
        assert TaskValue(**{**task, "annotations": [{**annotation, "completed_by": 1}]}).annotations
