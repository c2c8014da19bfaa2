"""NWPU-Crowd: ``jsons/0001.json`` with points and boxes of one picture, and lists of the pictures of each split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.dataset.entry import Entry, as_points, get
from engine.dataset.formats import SPLITS
from engine.dataset.text import read_text
from engine.errors import ConfigError


def read(data: Any, where: str) -> list[Entry]:
    """The one picture of a file.

    Raises:
        ConfigError: it has no points, or another number of them than it says.
    """
    points = as_points(get(data, "points", list, where), f"{where}, points")
    number = data.get("human_num", len(points))
    if number != len(points):
        raise ConfigError(f"{where} has {len(points)} points, and says that there are {number!r} people")
    name = data.get("img_id")
    stem = Path(where).stem
    return [Entry((name, stem) if isinstance(name, str) else (stem,), points, where, "points[{}]")]


def read_splits(folder: Path) -> dict[str, str]:
    """Split of each picture by its stem, as ``train.txt``, ``val.txt`` and ``test.txt`` beside the folders say.

    A line is a picture's number, and what light and crowd there is.
    """
    splits: dict[str, str] = {}
    for split in SPLITS:
        if (folder / f"{split}.txt").is_file():
            lines = read_text(folder / f"{split}.txt").split("\n")
            splits |= {words[0]: split for words in map(str.split, lines) if words}
    return splits


def write(name: str, points: list[list[float]], boxes: list[list[float]]) -> dict[str, Any]:
    """The file of one picture; boxes are left, top, right and bottom."""
    return {"img_id": name, "human_num": len(points), "points": points, "boxes": boxes}
