"""Heads that were found -> the annotation files of other tools, to be corrected there."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from engine.dataset import coco, cvat, label_studio, labelme, mat, nwpu, points_csv, points_json, yolo
from engine.dataset.formats import FORMATS
from engine.dataset.pictures import relative_names
from engine.dataset.shapes import box_around
from engine.errors import ConfigError
from engine.system.files import is_replaceable, whole_file

# Name, (width, height) and heads of a picture.
Picture = tuple[str, tuple[int, int], list[list[float]]]
Write = Callable[[str, tuple[int, int], np.ndarray], None]

# What the suffix of a file says of its format.
_BY_SUFFIX = {".json": "coco", ".xml": "cvat", ".csv": "points-csv"}
_YOLO_CLASSES = "data.yaml"


def format_of(path: Path, form: str | None) -> str:
    """The format to write: ``form``, or what the suffix of ``path`` says.

    Raises:
        ConfigError: the suffix says nothing.
    """
    if form or (form := _BY_SUFFIX.get(path.suffix.lower())):
        return form
    raise ConfigError(
        f"cannot tell from {path.name!r} which annotations to write; end it in {', '.join(_BY_SUFFIX)}, or give "
        f"--annotations-format: {', '.join(FORMATS)}"
    )


def is_folder(form: str) -> bool:
    """Whether the annotations are a file for each picture, in a folder."""
    return form in _TARGETS


def annotation_files(path: Path, form: str, pictures: Sequence[str]) -> list[Path]:
    """Every file that :func:`annotation_writer` writes in the folder ``path``, where :func:`is_folder`.

    Raises:
        ConfigError: two pictures would have one file.
    """
    names = dict(zip(pictures, relative_names(pictures), strict=True))
    return [*_targets(form, path, names).values(), *([path / _YOLO_CLASSES] if form == "yolo" else [])]


@contextlib.contextmanager
def annotation_writer(
    path: Path, form: str, pictures: Sequence[str], box: float, resume: bool = False
) -> Iterator[Write]:
    """A function that takes the path, (width, height) and heads [N, 2] of each picture in turn.

    Formats with a file for all pictures are written at the end of the block, however it ends: what was counted is kept.

    Args:
        path: of the file, or of the folder where :func:`is_folder`.
        pictures: paths of all pictures that may come; they are named from the folder that all have in common.
        box: side in pixels of the boxes around heads, where the format wants boxes.
        resume: leave files of single pictures as they are where they are there already, in place of an error.

    Raises:
        ConfigError: two pictures would have one file of annotations, or there is one already.
    """
    names = dict(zip(pictures, relative_names(pictures), strict=True))
    if is_folder(form):
        yield _folder_writer(path, form, names, box, resume)
        return
    found: list[Picture] = []
    try:
        yield lambda picture, size, points: found.append((names[picture], size, _rows(points)))
    finally:
        _write(path, _all(form, found, box))


def _folder_writer(path: Path, form: str, names: dict[str, str], box: float, resume: bool) -> Write:
    """What writes a file for each picture; ``names`` by the picture's path."""
    targets = _targets(form, path, names)
    there = {picture for picture, target in targets.items() if target.exists()}
    if there and not resume:
        raise ConfigError(
            f"{targets[min(there)]} is there already ({len(there)} such files), and may have been corrected by hand; "
            "write the annotations to another folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    if form == "yolo":
        _describe_yolo(path / _YOLO_CLASSES)

    def write(picture: str, size: tuple[int, int], points: np.ndarray) -> None:
        name = names[picture]
        if picture in there:
            return
        if form == "labelme":
            # Its files name the picture as it is seen from them.
            name = _path_from(targets[picture].parent, picture)
        _write(targets[picture], _one(form, (name, size, _rows(points)), box))

    return write


def _describe_yolo(path: Path) -> None:
    if path.exists() and path.read_bytes() != yolo.DATA_YAML.encode():
        raise ConfigError(f"{path} is of other annotations, whose classes are not these; write to another folder")
    _write(path, yolo.DATA_YAML.encode())


def _targets(form: str, folder: Path, names: dict[str, str]) -> dict[str, Path]:
    """The file of each picture, by the picture's path; called as the picture is, but for the suffix."""
    targets, pictures = {}, dict[Path, str]()
    for picture, name in names.items():
        target = targets[picture] = folder / _TARGETS[form](PurePosixPath(name))
        other = pictures.setdefault(target, picture)
        if other != picture:
            raise ConfigError(f"{other} and {picture} would share one file of annotations, {target}; rename one")
    return targets


def _all(form: str, found: list[Picture], box: float) -> bytes:
    """The one file of all pictures."""
    if form == "cvat":
        return cvat.write(found).encode()
    pairs = [(name, points) for name, _, points in found]
    if form == "points-csv":
        return points_csv.write(pairs).encode()
    if form == "points-json":
        return _json(points_json.write(pairs))
    return _json(label_studio.write(found) if form == "label-studio" else coco.write(found, box))


def _one(form: str, picture: Picture, box: float) -> bytes:
    """The file of one picture."""
    name, size, points = picture
    if form == "yolo":
        return yolo.write(points, size, box).encode()
    if form == "labelme":
        return _json(labelme.write(name, size, points))
    if form == "nwpu":
        sides = [box_around(x, y, box, size) for x, y in points]
        boxes = [[round(s, 3) for s in (left, top, left + w, top + h)] for left, top, w, h in sides]
        return _json(nwpu.write(PurePosixPath(name).name, points, boxes))
    return _MATLAB[form](points)


_MATLAB = {"shanghaitech": mat.shanghaitech, "ucf-qnrf": mat.ucf_qnrf, "beijing-brt": mat.beijing_brt}
# Where the file of a picture goes, by the picture's name.
_TARGETS: dict[str, Callable[[PurePosixPath], PurePosixPath]] = {
    "yolo": lambda name: "labels" / name.with_suffix(".txt"),
    "labelme": lambda name: name.with_suffix(".json"),
    "nwpu": lambda name: name.parent / "jsons" / f"{name.stem}.json",
    "shanghaitech": lambda name: name.parent / "ground-truth" / f"GT_{name.stem}.mat",
    "ucf-qnrf": lambda name: name.with_name(f"{name.stem}_ann.mat"),
    "beijing-brt": lambda name: name.parent / "ground_truth" / f"{name.stem}.mat",
}


def _path_from(folder: Path, picture: str) -> str:
    try:
        return Path(os.path.relpath(picture, folder)).as_posix()
    except ValueError:
        # It is on another drive of Windows.
        return Path(picture).absolute().as_posix()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A link is followed.
    path = path.resolve()
    with whole_file(path, sync=False) if is_replaceable(path) else contextlib.nullcontext(path) as part:
        part.write_bytes(content)


def _json(data: Any) -> bytes:
    return (json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _rows(points: np.ndarray) -> list[list[float]]:
    # Thousandths of a pixel are more than anybody marks.
    rows: list[list[float]] = np.round(points.astype(np.float64), 3).tolist()
    return rows
