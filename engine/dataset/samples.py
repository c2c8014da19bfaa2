"""Crowd data sets on disk: pictures with one point per head."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import PICTURE_SUFFIXES
from engine.errors import ConfigError
from engine.image.folders import walk

_POINT_FOLDERS = ("ground-truth", "ground_truth")
# Data sets keep what is for testing in a folder of this name.
_TEST_FOLDER = "test_data"


@dataclass(frozen=True)
class Sample:
    """One annotated picture.

    Attributes:
        image: path of the picture.
        points: float32 [N, 2], (x, y) of each head in pixels from the top-left corner.
        part: the folder of the data set that it belongs to, such as ``part_A``; where pictures for training and for
            testing were found, ``part_A/train`` and ``part_A/test``.
    """

    image: Path
    points: np.ndarray
    part: str

    @property
    def number(self) -> int:
        """The last number in the file's name, or one made of a name without digits; splits are made by it."""
        digits = re.findall(r"[0-9]+", self.image.stem)
        return int(digits[-1]) if digits else zlib.crc32(self.image.stem.encode())


def find_samples(folder: str | Path, split: str | None = None) -> list[Sample]:
    """All annotated pictures below ``folder``, sorted by path.

    Args:
        split: "test" for those below a folder called ``test_data``, "train" for all others; None for both.

    Every ``images`` folder is read, with its points in one of three places beside it:
    ``ground-truth/GT_<picture>.mat`` (ShanghaiTech's own layout), ``points.json``
    (``{"a.jpg": [[x, y], ...]}``, with ``[]`` where nobody is) or ``points.csv`` (header
    ``image,x,y``; a picture without rows has nobody in it).

    Raises:
        ConfigError: no such folder or one that cannot be read, no annotated picture in it, a picture without points,
            points that cannot be read, or of a file that is not read as a picture.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ConfigError(f"data folder {root} does not exist; give a folder that has images/ and points in it")
    samples = []
    folders = sorted(folder for folder, _ in walk(root, _refuse_folder) if folder.name == "images")
    splits = {images: _split_of(images, root) for images in folders}
    chosen = [images for images in folders if split in (None, splits[images])]
    mixed = len({splits[images] for images in chosen}) > 1
    for images in chosen:
        points_of = _points_reader(images.parent)
        part = _part_name(images, root) + (f"/{splits[images]}" if mixed else "")
        for picture in sorted(images.iterdir()):
            if picture.suffix.lower() in PICTURE_SUFFIXES:
                samples.append(Sample(picture, points_of(picture), part))
    if not samples:
        kind = f" for {split}ing" if split and len(chosen) < len(folders) else ""
        raise ConfigError(f"no images/ folder with pictures{kind} below {root}; expected ShanghaiTech's layout")
    return samples


def _refuse_folder(error: OSError) -> None:
    raise ConfigError(f"data folder {error.filename} cannot be read: {error.strerror}") from error


def _split_of(images: Path, root: Path) -> str:
    # What the folders above the one that was named are called says nothing of it.
    return "test" if _TEST_FOLDER in (root.resolve().name, *images.relative_to(root).parts) else "train"


def _part_name(images: Path, root: Path) -> str:
    parts = [p for p in images.resolve().parts if p.startswith("part_")]
    return parts[-1] if parts else root.name


def _points_reader(folder: Path) -> Callable[[Path], np.ndarray]:
    if (folder / "points.json").is_file():
        return _json_reader(folder / "points.json")
    if (folder / "points.csv").is_file():
        return _csv_reader(folder / "points.csv")
    for name in _POINT_FOLDERS:
        if (folder / name).is_dir():
            return lambda picture: _read_mat(folder / name / f"GT_{picture.stem}.mat")
    raise ConfigError(f"{folder} has images but no points: expected ground-truth/, points.json or points.csv")


def _json_reader(path: Path) -> Callable[[Path], np.ndarray]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f'{path} must hold {{"a.jpg": [[x, y], ...]}}, got a {type(table).__name__}')

    _refuse_unread(path, table)

    def points_of(picture: Path) -> np.ndarray:
        # An empty list says that nobody is there; a picture left out was more likely forgotten.
        if picture.name not in table:
            raise ConfigError(f"{path} has no entry for {picture.name}; give it [] if nobody is in the picture")
        return _as_points(table[picture.name], f"{path}, {picture.name}")

    return points_of


def _csv_reader(path: Path) -> Callable[[Path], np.ndarray]:
    rows = defaultdict(list)
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"image", "x", "y"} <= set(reader.fieldnames or ()):
            raise ConfigError(f"{path} must start with the header image,x,y, got {reader.fieldnames}")
        for row in reader:
            rows[row["image"]].append((row["x"], row["y"]))
    # A picture without rows has nobody in it; under a misspelt name it would seem to.
    folder = path.parent / "images"
    if strangers := set(rows) - {picture.name for picture in folder.iterdir()}:
        raise ConfigError(
            f"{path} has points of {', '.join(sorted(map(repr, strangers))[:3])}, not in {folder} ({len(strangers)} "
            "such names in all); name each picture as its file, suffix included"
        )
    _refuse_unread(path, rows)
    return lambda picture: _as_points(rows[picture.name], f"{path}, {picture.name}")


def _refuse_unread(path: Path, names: Iterable[str]) -> None:
    """Files that have points and would be left out for their suffix."""
    folder = path.parent / "images"
    for name in sorted(names):
        if Path(name).suffix.lower() not in PICTURE_SUFFIXES and (folder / name).is_file():
            kinds = ", ".join(sorted(PICTURE_SUFFIXES))
            raise ConfigError(f"{path} has points of {name}, which is not read as a picture; expected one of {kinds}")


def _read_mat(path: Path) -> np.ndarray:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ConfigError("reading .mat points needs SciPy: pip install 'crowd-engine[eval]'") from error
    if not path.is_file():
        raise ConfigError(f"{path} is missing; every picture needs its points")
    try:
        rows = loadmat(path)["image_info"][0, 0][0, 0][0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path} does not have ShanghaiTech's layout, image_info{{1,1}}.location: {error!r}"
        ) from error
    return _as_points(rows, str(path))


def _as_points(rows: Any, where: str) -> np.ndarray:
    try:
        points = np.asarray(rows, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: points must be pairs of numbers [[x, y], ...]: {error}") from error
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise ConfigError(f"{where}: points must be pairs [[x, y], ...], got an array of shape {points.shape}")
    if not np.isfinite(points).all():
        raise ConfigError(f"{where}: points must be pairs of numbers, got a missing or infinite coordinate")
    return points.reshape(-1, 2)
