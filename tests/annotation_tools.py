"""Annotations written by the libraries of the tools that people annotate with.

``python tests/annotation_tools.py`` writes those whose library is installed into tests/dataset/written, where they are
kept, because the libraries are large and do not all fit into one environment. What is kept was written by
supervision 0.31.2, datumaro 1.13.12 (of CVAT's makers), labelme 6.3.1 and label-studio-sdk 2.1.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

WRITTEN = Path(__file__).parent / "dataset" / "written"
# Pictures, their sizes and the heads in them.
SIZES = {"IMG_1.jpg": (320, 240), "café 2.jpg": (200, 100), "IMG_3.png": (64, 48)}
HEADS = {"IMG_1.jpg": [(30.5, 40.25), (100.0, 200.0), (310.0, 12.5)], "café 2.jpg": [], "IMG_3.png": [(32.5, 24.0)]}
BOX = (16.0, 20.0)


def make_pictures(folder: Path) -> None:
    """Grey pictures of those names and sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        Image.new("RGB", size, (90, 90, 90)).save(folder / name)


def boxes(name: str) -> np.ndarray:
    """[N, 4] left, top, right, bottom of each head's box."""
    points = np.array(HEADS[name], float).reshape(-1, 2)
    return np.hstack([points - np.array(BOX) / 2, points + np.array(BOX) / 2])


def _supervision(folder: Path):
    import supervision

    make_pictures(folder / "pictures")
    paths = [str(folder / "pictures" / name) for name in SIZES]
    annotations = {
        path: supervision.Detections(boxes(Path(path).name), class_id=np.zeros(len(HEADS[Path(path).name]), int))
        for path in paths
    }
    return supervision.DetectionDataset(["head"], paths, annotations)


def supervision_coco(folder: Path, scratch: Path) -> None:
    """Boxes."""
    _supervision(scratch).as_coco(annotations_path=str(folder / "annotations.json"))


def supervision_yolo(folder: Path, scratch: Path) -> None:
    """Boxes, in labels/, and data.yaml."""
    data = _supervision(scratch)
    data.as_yolo(annotations_directory_path=str(folder / "labels"), data_yaml_path=str(folder / "data.yaml"))


def supervision_labelme(folder: Path, scratch: Path) -> None:
    """Rectangles."""
    _supervision(scratch).as_labelme(annotations_directory_path=str(folder))


def _datumaro(scratch: Path, kind: str):
    import datumaro
    from datumaro.components.annotation import Bbox, Points

    make_pictures(scratch / "pictures")
    items = []
    for name in SIZES:
        found = [Points(point, [2], label=0, id=i, group=i) for i, point in enumerate(HEADS[name], 1)]
        around = [Bbox(*box[:2], *(box[2:] - box[:2]), label=0, id=i, group=i) for i, box in enumerate(boxes(name), 1)]
        # COCO has no keypoints without a box.
        found = {"boxes": around, "points": found, "both": found + around}[kind]
        media = datumaro.components.media.Image.from_file(path=str(scratch / "pictures" / name))
        items.append(datumaro.DatasetItem(id=Path(name).stem, media=media, annotations=found, subset="default"))
    categories = {
        datumaro.AnnotationType.label: datumaro.LabelCategories.from_iterable(["head"]),
        datumaro.AnnotationType.points: datumaro.PointsCategories.from_iterable([(0, ["head"])]),
    }
    return datumaro.Dataset.from_iterable(items, categories=categories)


def datumaro_coco(folder: Path, scratch: Path) -> None:
    """Boxes."""
    _datumaro(scratch, "boxes").export(str(folder), "coco_instances")


def datumaro_coco_keypoints(folder: Path, scratch: Path) -> None:
    """Persons of one keypoint."""
    _datumaro(scratch, "both").export(str(folder), "coco_person_keypoints")


def datumaro_yolo(folder: Path, scratch: Path) -> None:
    """Boxes, beside the pictures, with obj.names."""
    _datumaro(scratch, "boxes").export(str(folder), "yolo")


def datumaro_cvat(folder: Path, scratch: Path) -> None:
    """Points."""
    _datumaro(scratch, "points").export(str(folder), "cvat")


def datumaro_cvat_boxes(folder: Path, scratch: Path) -> None:
    """Boxes."""
    _datumaro(scratch, "boxes").export(str(folder), "cvat")


def labelme(folder: Path, scratch: Path) -> None:
    """Points, rectangles and circles in turn."""
    from labelme._label_file import write_label_file

    for name, (width, height) in SIZES.items():
        shapes = []
        for i, ((x, y), box) in enumerate(zip(HEADS[name], boxes(name), strict=True)):
            kind = ("point", "rectangle", "circle")[i % 3]
            points = {"point": [[x, y]], "rectangle": [[*box[:2]], [*box[2:]]], "circle": [[x, y], [x + 7, y + 3]]}[
                kind
            ]
            shapes.append(
                {
                    "label": "head",
                    "points": points,
                    "group_id": None,
                    "description": "",
                    "shape_type": kind,
                    "flags": {},
                }
            )
        write_label_file(
            str(folder / f"{Path(name).stem}.json"),
            shapes=shapes,
            image_path=name,
            image_height=height,
            image_width=width,
        )


def label_studio(folder: Path, scratch: Path) -> None:
    """Keypoints and rectangles in turn, in tasks as their library makes them."""
    from label_studio_sdk.label_interface import LabelInterface
    from label_studio_sdk.label_interface.objects import AnnotationValue, TaskValue

    interface = LabelInterface(
        '<View><Image name="image" value="$image"/>'
        '<KeyPointLabels name="point" toName="image"><Label value="head"/></KeyPointLabels>'
        '<RectangleLabels name="box" toName="image"><Label value="head"/></RectangleLabels></View>'
    )
    tasks = []
    for name, (width, height) in SIZES.items():
        percent = 100 / np.array([width, height])
        regions = []
        for i, ((x, y), box) in enumerate(zip(np.array(HEADS[name]).reshape(-1, 2), boxes(name), strict=True)):
            if i % 2:
                left, top = box[:2] * percent
                place = dict(zip(("x", "y", "width", "height"), (left, top, *(np.array(BOX) * percent)), strict=True))
                regions.append(interface.get_control("box").label(label=["head"], rotation=0, **place))
            else:
                point = {"x": x * percent[0], "y": y * percent[1], "width": 0.5}
                regions.append(interface.get_control("point").label(label=["head"], **point))
        annotation = AnnotationValue(completed_by=1, result=regions)
        assert all(interface.validate_region(region._dict()) for region in regions)
        data = {"image": f"/data/upload/7/0badcafe-{name}"}
        tasks.append(TaskValue(data=data, annotations=[annotation]).model_dump())
    (folder / "tasks.json").write_text(json.dumps(tasks, ensure_ascii=False, indent=1), encoding="utf-8")


# Each with the library that it needs.
WRITERS: dict[Callable[[Path, Path], None], str] = {
    supervision_coco: "supervision",
    supervision_yolo: "supervision",
    supervision_labelme: "supervision",
    datumaro_coco: "datumaro",
    datumaro_coco_keypoints: "datumaro",
    datumaro_yolo: "datumaro",
    datumaro_cvat: "datumaro",
    datumaro_cvat_boxes: "datumaro",
    labelme: "labelme",
    label_studio: "label_studio_sdk",
}

if __name__ == "__main__":
    import importlib.util
    import tempfile

    for write, library in WRITERS.items():
        if importlib.util.find_spec(library):
            target = WRITTEN / write.__name__
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as temporary:
                write(target, Path(temporary))
            print("wrote", target)
