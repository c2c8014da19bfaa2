"""Annotation files below a folder, recognised by their names and contents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.dataset import coco, cvat, label_studio, labelme, mat, nwpu, points_csv, points_json, yolo
from engine.dataset.entry import Entry
from engine.dataset.formats import FORMATS
from engine.dataset.pictures import walk_data
from engine.dataset.text import read_bytes, read_json, read_text
from engine.dataset.yolo_classes import find_classes
from engine.errors import ConfigError
from engine.image.folders import is_picture

_MAT_FOLDERS = ("ground-truth", "ground_truth")
_JSON: dict[str, Callable[[Any, str], list[Entry]]] = {
    "coco": coco.read,
    "labelme": labelme.read,
    "label-studio": label_studio.read,
    "points-json": points_json.read,
    "nwpu": nwpu.read,
}
# Formats with a file a picture that is called as the picture is, or lies beside it.
_BESIDE = ("labelme", "nwpu", "shanghaitech", "ucf-qnrf", "beijing-brt")
# Formats with one file a picture that is read by itself: the files of a data set are one source.
_ONE_EACH = ("labelme", "nwpu", "yolo")
_PACKED = (".zip", ".gz", ".tar", ".7z", ".rar")
# Enough to see the root element of an XML file.
_START = 4096


@dataclass(frozen=True)
class Source:
    """Annotations of one format: a file, or all that are in a folder.

    Attributes:
        path: the file or folder.
        pictures: the folder that has the pictures and no others; None where they may be anywhere.
    """

    format: str
    path: Path
    entries: list[Entry]
    pictures: Path | None = None


def find_sources(root: Path, wanted: str | None, skip: Callable[[Path], bool]) -> list[Source]:
    """All annotations below ``root``.

    Args:
        wanted: look for this format only.
        skip: whether the annotations in a folder are left unread.

    Raises:
        ConfigError: a folder, or a file that was recognised, cannot be read.
    """
    sources: list[Source] = []
    for folder, names in walk_data(root):
        if not skip(folder):
            sources += [s for s in _in_folder(folder, names, root, wanted) if wanted in (None, s.format)]
    together = [
        Source(kind, root, [entry for source in sources if source.format == kind for entry in source.entries])
        for kind in _ONE_EACH
    ]
    return [s for s in sources if s.format not in _ONE_EACH] + [s for s in together if s.entries]


def read_source(path: Path, wanted: str | None, root: Path) -> list[Source]:
    """The annotations that were named: a file, or a folder of files.

    Args:
        root: the folder of the pictures.

    Raises:
        ConfigError: it is of none of the formats, or not of the ``wanted`` one, or cannot be read.
    """
    whole = path.is_dir()
    sources = find_sources(path, wanted, lambda _: False) if whole else _in_file(path, wanted)
    if not sources:
        unpack = "; unpack it first" if path.suffix.lower() in _PACKED else ""
        raise ConfigError(
            f"{path} has no annotations {f'in the format {wanted}' if wanted else 'in a format that is known'}; "
            f"read are {', '.join(FORMATS)}{unpack}"
        )
    # The pictures are where the user says, wherever the annotations are.
    forms = dict.fromkeys(source.format for source in sources)
    together = {form: [source for source in sources if source.format == form] for form in forms}
    return [
        Source(
            form,
            path,
            # Their paths are seen from another folder than those of the pictures.
            [replace(entry, exact=False) for source in group for entry in source.entries],
            None if group[0].pictures is None else root,
        )
        for form, group in together.items()
    ]


def _in_folder(folder: Path, names: Sequence[str], root: Path, wanted: str | None) -> list[Source]:
    found = [s for name in names if _may_be_read(name, wanted) for s in _in_file(folder / name, None)]
    if any(name.endswith("_ann.mat") for name in names):
        found.append(Source("ucf-qnrf", folder, mat.read_ucf_qnrf(folder), folder))
    if folder.name in _MAT_FOLDERS and not found:
        # ShanghaiTech's files begin with GT_; those of Beijing-BRT are called as their pictures.
        if any(name.endswith(".mat") for name in names) and not any(name.startswith("GT_") for name in names):
            found.append(Source("beijing-brt", folder, mat.read_beijing_brt(folder), _images(folder.parent, "frame")))
        else:
            found.append(Source("shanghaitech", folder, mat.read_shanghaitech(folder), _images(folder.parent)))
    if any(map(is_picture, names)):
        found = [replace(s, entries=_exactly(s.entries)) if s.format == "labelme" else s for s in found]
    found = [replace(s, entries=_below(s.entries, folder, root)) if s.format in _BESIDE else s for s in found]
    if wanted in (None, "yolo"):
        found += _yolo(folder, names, root, wanted == "yolo")
    return found


def _may_be_read(name: str, wanted: str | None) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix == ".csv":
        return name == "points.csv"
    return suffix == ".xml" or (suffix == ".json" and wanted in (None, *_JSON))


def _in_file(path: Path, wanted: str | None) -> list[Source]:
    """The source that a file is, by its suffix and content; none if it is something else."""
    where, suffix = str(path), path.suffix.lower()
    if suffix == ".csv":
        entries = points_csv.read(read_text(path), where)
        return [Source("points-csv", path, entries, _images(path.parent))]
    if suffix == ".xml":
        known = wanted == "cvat" or cvat.is_cvat(read_bytes(path, _START))
        return [Source("cvat", path, _placed(cvat.read(path), path.parent))] if known else []
    if suffix == ".json":
        data = read_json(path)
        kind = wanted or _kind(data, path.name)
        if kind in _JSON:
            entries = _placed(_JSON[kind](data, where), path.parent)
            if kind == "nwpu":
                splits = nwpu.read_splits(path.parent.parent)
                entries = [replace(entry, split=splits.get(path.stem)) for entry in entries]
            return [Source(kind, path, entries, _images(path.parent) if kind == "points-json" else None)]
    return []


def _kind(data: Any, name: str) -> str | None:
    """The format of a JSON file by its keys."""
    if isinstance(data, list):
        if data and all(isinstance(task, dict) for task in data) and ("annotations" in data[0] or "data" in data[0]):
            return "label-studio"
        return "points-json" if name == "points.json" else None
    if not isinstance(data, dict):
        return None
    if {"images", "annotations"} <= set(data) and all(isinstance(data[k], list) for k in ("images", "annotations")):
        is_coco = name != "points.json" or all(isinstance(image, dict) for image in data["images"])
        return "coco" if is_coco else "points-json"
    if "shapes" in data and "imagePath" in data:
        return "labelme"
    if "points" in data and ("human_num" in data or "img_id" in data):
        return "nwpu"
    named = bool(data) and all(map(is_picture, data))
    return "points-json" if name == "points.json" or named else None


def _yolo(folder: Path, names: Sequence[str], root: Path, certain: bool) -> list[Source]:
    """Text files that are labels, a source each: those in a folder called labels, beside pictures of the same name, or
    where a file has the names of the classes."""
    in_labels = "labels" in folder.relative_to(root.parent).parts
    files = [folder / name for name in names if yolo.is_labels(name, in_labels)]
    if not files:
        return []
    classes = find_classes([folder, *(p for p in folder.parents if p == root or root in p.parents)])
    pictures, exact = _yolo_pictures(folder, root, {Path(n).stem for n in names if is_picture(n)})
    if in_labels:
        files = [f for f in files if not yolo.is_other(f.name) or f.stem in pictures or _has_labels(f)]
    elif not certain:
        files = [file for file in files if classes.names or file.stem in pictures]
        first = next((text for file in files if (text := read_text(file)).strip()), "")
        files = files if yolo.looks_like_labels(first) else []
    entries = [(file, _placed(yolo.read(file, classes, root), folder)) for file in files]
    return [Source("yolo", file, [replace(entry, exact=exact) for entry in found]) for file, found in entries]


def _yolo_pictures(folder: Path, root: Path, beside: set[str]) -> tuple[set[str], bool]:
    """Stems of the pictures of the labels in ``folder``, and whether they can be nowhere else.

    Args:
        beside: stems of the pictures in the folder itself.
    """
    parts = folder.relative_to(root).parts
    if "labels" not in parts:
        return beside, bool(beside)
    images = yolo.pictures_of(parts)
    place = root.joinpath(*images)
    stems = {path.stem for path in place.iterdir() if is_picture(path.name)} if place.is_dir() else set()
    last = len(parts) - parts[::-1].index("labels")
    return stems | beside, root.joinpath(*images[:last]).is_dir()


def _has_labels(file: Path) -> bool:
    return yolo.looks_like_labels(read_text(file))


def _images(folder: Path, name: str = "images") -> Path:
    """Where the pictures of a data set in ``folder`` are."""
    return folder / name if (folder / name).is_dir() else folder


def _below(entries: list[Entry], folder: Path, root: Path) -> list[Entry]:
    """The entries with their names as from ``root``: files of one name each know their picture by their own folder."""
    parts = folder.relative_to(root).parts
    inside = "".join(f"{part}/" for part in parts[: -1 if folder.name in (*_MAT_FOLDERS, "jsons") else None])
    return [replace(entry, names=tuple(inside + name for name in entry.names)) for entry in entries]


def _exactly(entries: list[Entry]) -> list[Entry]:
    """The entries of a file beside pictures: a name without folders is that of one of them."""
    return [replace(entry, exact=not any(sign in entry.names[0] for sign in "/\\")) for entry in entries]


def _placed(entries: list[Entry], folder: Path) -> list[Entry]:
    return [replace(entry, folder=folder) for entry in entries]
