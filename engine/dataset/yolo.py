"""YOLO: one text file a picture, a line a person: class, and centre, width and height as shares of the picture."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from engine.dataset.entry import Entry, Head
from engine.dataset.shapes import box_around, middle
from engine.dataset.text import read_text
from engine.dataset.yolo_classes import Classes, is_classes
from engine.errors import ConfigError

# Text files that are no labels, unless there is a picture of that name.
_OTHER = {"train.txt", "val.txt", "valid.txt", "test.txt", "autosplit_train.txt", "autosplit_val.txt",
          "autosplit_test.txt", "readme.txt", "readme.roboflow.txt", "readme.dataset.txt", "requirements.txt",
          "license.txt", "notes.txt"}  # fmt: skip
# A line of labels; a text file may be a caption, or a list of pictures.
_LINE = re.compile(r"\s*\d+(\s+[\d.eE+-]+){4,}\s*(\n|$)")


def is_labels(name: str, in_labels: bool) -> bool:
    """Whether a file of this name may hold the labels of a picture.

    Args:
        in_labels: it lies in a folder called ``labels``, where a picture may be called as other files are elsewhere.
    """
    return name.endswith(".txt") and not is_classes(name) and (in_labels or not is_other(name))


def is_other(name: str) -> bool:
    """Whether a file of this name is of the data set rather than of a picture, as a rule."""
    return name.lower() in _OTHER


def looks_like_labels(text: str) -> bool:
    """Whether a text begins with a line of labels."""
    return _LINE.match(text) is not None


def read(path: Path, classes: Classes, root: Path) -> list[Entry]:
    """The one picture of a file, named as the file is, ``labels`` in its path being ``images``.

    Boxes become their centres; so do outlines (segmentation) and turned boxes. A keypoint that is the only one of its
    box is the head, where it is marked.

    Args:
        classes: of the data set (:func:`find_classes`); those without a name are called by their numbers.
        root: the folder that names begin from.

    Raises:
        ConfigError: a line has another form, may have several meanings, or has numbers outside 0 to 1; the message says
            which line.
    """
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if classes.keypoints is None:
        _refuse_poses(lines, str(path))
    heads: list[Head] = []
    for number, words in lines:
        label, x, y = _head(words, classes.keypoints or 0, f"{path}, line {number}")
        heads.append((number, classes.names.get(label, str(label)), x, y))
    name = "/".join([*pictures_of(path.relative_to(root).parent.parts), path.stem])
    declared = tuple(classes.names.values())
    return [Entry.of_heads((name,), heads, str(path), "line {}", declared=declared, shares=True)]


def pictures_of(folders: Sequence[str]) -> list[str]:
    """Where the pictures of labels in ``folders`` are: in ``images`` for the last of them that is ``labels``.

    >>> pictures_of(["labels", "cam1"])
    ['images', 'cam1']
    """
    places = [i for i, folder in enumerate(folders) if folder == "labels"]
    return ["images" if places and i == places[-1] else folder for i, folder in enumerate(folders)]


def write(points: list[list[float]], size: tuple[int, int], side: float) -> str:
    """The file of one picture: a box of ``side`` pixels around each head."""
    lines = []
    for x, y in points:
        width, height = box_around(x, y, side, size)[2:]
        lines.append(f"0 {x / size[0]:.8f} {y / size[1]:.8f} {width / size[0]:.8f} {height / size[1]:.8f}\n")
    return "".join(lines)


DATA_YAML = "# Labels beside the pictures: images/a.jpg, labels/a.txt\ntrain: images\nval: images\nnames:\n  0: head\n"


def _refuse_poses(lines: Sequence[tuple[int, list[str]]], path: str) -> None:
    """Refuse lines that are likely a box with keypoints, where nothing says how many, and that an outline could be.

    An outline of three corners looks like a box and a keypoint in it, unless the third lies outside that box, or the
    file has outlines of more corners. Where each keypoint has a third number, whether it is seen, those are 0, 1 or 2.
    """
    most = max((len(words) for _, words in lines), default=0)
    for number, words in lines:
        if _says_what_is_seen(words) or (most == 7 == len(words) and _is_keypoint_in_box(words)):
            raise ConfigError(
                f"{path}, line {number} may be a box with keypoints or an outline; for keypoints give data.yaml "
                "kpt_shape, such as kpt_shape: [1, 3], and for an outline name its last corner twice"
            )


def _says_what_is_seen(words: list[str]) -> bool:
    """Whether every third value after a box and a keypoint's place is 0, 1 or 2; in short lines, in one digit."""
    is_long = len(words) > 11
    return (len(words) >= 11 and len(words) % 6 == 5) and all(
        word in ("0", "1", "2") or (is_long and _number(word) in (0, 1, 2)) for word in words[7::3]
    )


def _is_keypoint_in_box(words: list[str]) -> bool:
    try:
        x, y, width, height, key_x, key_y = map(float, words[1:])
    except ValueError:
        return False
    is_unmarked = key_x == 0 == key_y
    return is_unmarked or (abs(key_x - x) <= width / 2 and abs(key_y - y) <= height / 2)


def _head(words: list[str], keypoints: int, where: str) -> tuple[int, float, float]:
    if not words[0].isdecimal() or len(words[0]) > 6:
        raise ConfigError(f"{where} must begin with the number of a class, got {words[0]!r}")
    label = int(words[0])
    if keypoints and len(words) in (5 + 2 * keypoints, 5 + 3 * keypoints):
        return label, *_of_pose(words[1:], keypoints, where)
    if keypoints and len(words) > 6:
        raise ConfigError(f"{where} has {len(words)} values, and data.yaml says {keypoints} keypoints after each box")
    if len(words) >= 8 and len(words) % 2 == 0:
        raise ConfigError(
            f"{where} has {len(words)} values, which are no outline; for keypoints give data.yaml their number and "
            "that of their values, such as kpt_shape: [1, 3]"
        )
    numbers = [_share(word, where) for word in words[1:]]
    # A sixth number is how sure a detector was.
    if len(numbers) in (4, 5):
        return label, numbers[0], numbers[1]
    if len(numbers) >= 6:
        return label, *middle(list(zip(numbers[::2], numbers[1::2], strict=True)))
    raise ConfigError(
        f"{where} must be a class and x, y, width and height, or the corners of an outline; got {len(words)} values"
    )


def _of_pose(words: list[str], keypoints: int, where: str) -> tuple[float, float]:
    """The only keypoint of a box, where it is marked; else the centre of the box."""
    box = [_share(word, where) for word in words[:4]]
    if keypoints > 1:
        return box[0], box[1]
    # What follows the keypoint is whether it is seen: 0 is unmarked, 1 hidden, 2 seen; or how sure a detector was.
    x, y, *seen = (_number(word) for word in words[4:])
    if not all(0 <= value <= 2 for value in seen):
        raise ConfigError(f"{where} must say by 0, 1 or 2 whether its keypoint is seen, got {words[6]!r}")
    if 0 in seen or x == 0 == y or (not seen and min(x, y) < 0):
        return box[0], box[1]
    return _share(words[4], where), _share(words[5], where)


def _share(word: str, where: str) -> float:
    value = _number(word)
    # A box that reaches the edge may be rounded over it.
    if not -0.01 <= value <= 1.01:
        raise ConfigError(f"{where} must have shares of the picture's sides, from 0 to 1, got {word!r}")
    return value


def _number(word: str) -> float:
    """NaN where it is none; float() takes digits apart by "_" too, which no program writes."""
    try:
        return math.nan if "_" in word else float(word)
    except ValueError:
        return math.nan
