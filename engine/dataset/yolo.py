"""YOLO: one text file a picture, a line a person: class, and centre, width and height as shares of the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.dataset.entry import Entry
from engine.dataset.shapes import box_around, middle
from engine.dataset.text import read_text
from engine.errors import ConfigError

# Text files that are no labels.
_OTHER = {"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "autosplit_train.txt", "autosplit_val.txt",
          "autosplit_test.txt", "readme.txt", "readme.roboflow.txt", "readme.dataset.txt", "requirements.txt",
          "license.txt", "notes.txt"}  # fmt: skip
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names", "predefined_classes.txt")


def is_labels(name: str) -> bool:
    """Whether a file of this name may hold the labels of a picture."""
    return name.endswith(".txt") and name.lower() not in _OTHER


@dataclass(frozen=True)
class Classes:
    """What a data.yaml says: names of the classes, and how many keypoints follow each box."""

    names: tuple[str, ...] = ()
    keypoints: int = 0


def read(path: Path, classes: Classes, root: Path) -> list[Entry]:
    """The one picture of a file, named as the file is, ``labels`` in its path being ``images``.

    Boxes become their centres; so do outlines (segmentation) and turned boxes. A keypoint that is the only one of its
    box is the head.

    Args:
        classes: of the data set (:func:`find_classes`); those without a name are called by their numbers.
        root: the folder that names begin from.

    Raises:
        ConfigError: a line has another form, or numbers outside 0 to 1; the message says which line.
    """
    heads: list[tuple[int, str, float, float]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if words := line.split():
            label, x, y = _head(words, classes.keypoints, f"{path}, line {number}")
            heads.append((number, classes.names[label] if label < len(classes.names) else str(label), x, y))
    parts = [*path.relative_to(root).parent.parts]
    if "labels" in parts:
        last = len(parts) - 1 - parts[::-1].index("labels")
        parts[last] = "images"
    points = np.array([head[2:] for head in heads], np.float64).reshape(-1, 2)
    rows, labels = [head[0] for head in heads], [head[1] for head in heads]
    return [
        Entry(("/".join([*parts, path.stem]),), points, str(path), "line {}", rows, labels, classes.names, shares=True)
    ]


def find_classes(folders: Sequence[Path]) -> Classes:
    """What the first of the folders says that has a file of the classes' names; nothing if none has."""
    for folder in folders:
        for name in _NAMES:
            if (folder / name).is_file():
                text = read_text(folder / name)
                if name.endswith("ml"):
                    match = re.search(r"^kpt_shape:\s*\[\s*(\d{1,4})\s*,", text, re.MULTILINE)
                    return Classes(tuple(_yaml_names(text)), int(match[1]) if match else 0)
                return Classes(tuple(line.strip() for line in text.split("\n")))
    return Classes()


def write(points: list[list[float]], size: tuple[int, int], side: float) -> str:
    """The file of one picture: a box of ``side`` pixels around each head."""
    lines = []
    for x, y in points:
        width, height = box_around(x, y, side, size)[2:]
        lines.append(f"0 {x / size[0]:.8f} {y / size[1]:.8f} {width / size[0]:.8f} {height / size[1]:.8f}\n")
    return "".join(lines)


DATA_YAML = "# Labels beside the pictures: images/a.jpg, labels/a.txt\ntrain: images\nval: images\nnames:\n  0: head\n"


def _head(words: list[str], keypoints: int, where: str) -> tuple[int, float, float]:
    if not words[0].isdecimal() or len(words[0]) > 6:
        raise ConfigError(f"{where} must begin with the number of a class, got {words[0]!r}")
    if keypoints and len(words) in (5 + 2 * keypoints, 5 + 3 * keypoints):
        # Whether a keypoint is seen, which may follow it, is no share.
        x, y = words[5:7] if keypoints == 1 else words[1:3]
        return int(words[0]), _share(x, where), _share(y, where)
    numbers = [_share(word, where) for word in words[1:]]
    # A sixth number is how sure a detector was.
    if len(numbers) in (4, 5):
        return int(words[0]), numbers[0], numbers[1]
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        return int(words[0]), *middle(list(zip(numbers[::2], numbers[1::2], strict=True)))
    raise ConfigError(
        f"{where} must be a class and x, y, width and height, or the corners of an outline; got {len(words)} values"
    )


def _share(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    # A box that reaches the edge may be rounded over it.
    if not -0.01 <= value <= 1.01 or "_" in word:
        raise ConfigError(f"{where} must have shares of the picture's sides, from 0 to 1, got {word!r}")
    return value


def _yaml_names(text: str) -> list[str]:
    """``names`` of a data.yaml: a list in brackets, a list of lines, or numbers with names."""
    match = re.search(
        r"^names:[ \t]*(\[.*?\]|\{.*?\}|(?:\r?\n[ \t]*(?:-|\d+[ \t]*:)[^\n]*)+)", text, re.DOTALL | re.MULTILINE
    )
    if not match:
        return []
    inside = match[1].strip("[]{}")
    items = re.split(r"[,\n]", inside) if match[1][0] in "[{" else inside.strip().split("\n")
    return [re.sub(r"^\s*(?:-\s|\d+\s*:)?\s*|\s*(?:#.*)?$", "", item).strip("'\"") for item in items if item.strip()]
