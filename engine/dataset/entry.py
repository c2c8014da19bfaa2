"""What an annotation file says of one picture, and the checks that hold for every format."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError

_log = logging.getLogger("engine")

# How far a point may lie outside its picture: people whose head is cut by the edge are marked there.
_MARGIN_SHARE, _MARGIN_PIXELS = 0.02, 2
_LARGEST = sys.float_info.max
# Number of a point in its file, its label, x and y.
Head = tuple[int, str, float, float]


@dataclass(frozen=True, eq=False)
class Entry:
    """One picture of an annotation file.

    Attributes:
        names: of the picture, as the file gives it; the first that is there is the one. A name may have folders in
            front, and may lack the suffix.
        points: float64 [N, 2], (x, y) in pixels from the top-left corner, or shares of the picture's sides.
        where: file and key, for messages.
        row: place of a point within it, with ``{}`` for its number.
        rows: number of each point; None counts from 0.
        labels: of each point; empty where the format has none.
        declared: labels that the file says there may be, in use or not.
        size: (width, height) of the picture, where the file gives it.
        shares: the points are shares of the sides, not pixels.
        split: "train", "val" or "test" where the format says so itself.
        folder: of the annotation file; None leaves it to the reader of the file.
        exact: the first name is the path of the picture from the folder of the pictures, and no other place is meant.
    """

    names: tuple[str, ...]
    points: np.ndarray
    where: str
    row: str = "point {}"
    rows: Sequence[int] | None = None
    labels: Sequence[str] = ()
    declared: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    shares: bool = False
    split: str | None = None
    folder: Path | None = None
    exact: bool = False

    @classmethod
    def of_heads(cls, names: tuple[str, ...], heads: Sequence[Head], where: str, row: str, **more: Any) -> Entry:
        """The entry of a picture with these heads; ``more`` are further attributes."""
        points = np.array([head[2:] for head in heads], np.float64).reshape(-1, 2)
        return cls(names, points, where, row, [head[0] for head in heads], [head[1] for head in heads], **more)

    def place(self, number: int) -> str:
        """Where point ``number`` stands."""
        return f"{self.where}, {self.row.format(number if self.rows is None else self.rows[number])}"

    def keep(self, chosen: np.ndarray) -> Entry:
        """The same with a part of the points: bool [N]."""
        numbers = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            points=self.points[numbers],
            rows=[i if self.rows is None else self.rows[i] for i in numbers],
            labels=[self.labels[i] for i in numbers] if self.labels else (),
        )


def as_points(rows: Any, where: str) -> np.ndarray:
    """Rows of a file as float64 [N, 2].

    Raises:
        ConfigError: they are no pairs of finite numbers.
    """
    if isinstance(rows, list):
        _refuse_other_values(rows, where)
    if isinstance(rows, np.ndarray) and rows.dtype.kind not in "biufO":
        raise ConfigError(f"{where}: points must be pairs of numbers [[x, y], ...], got an array of {rows.dtype}")
    try:
        points = np.asarray(rows, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where}: points must be pairs of numbers [[x, y], ...]: {error}") from error
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise ConfigError(f"{where}: points must be pairs [[x, y], ...], got an array of shape {points.shape}")
    if not np.isfinite(points).all():
        raise ConfigError(f"{where}: points must be pairs of numbers, got a missing or infinite coordinate")
    return points.reshape(-1, 2)


def _refuse_other_values(rows: list[Any], where: str) -> None:
    """What a JSON file may have in the place of points, and NumPy would take for numbers or for none."""
    for row in rows:
        values = row if isinstance(row, list) else [row]
        if not values or any(isinstance(value, bool | str) for value in values):
            raise ConfigError(f"{where}: points must be pairs of numbers [[x, y], ...], got {_short(row)}")


def as_number(value: Any, where: str) -> float:
    """A finite number of a JSON file.

    Raises:
        ConfigError: it is something else; the message says what.
    """
    # Larger integers have no float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ConfigError(f"{where} must be a number, got {_short(value)}")
    return float(value)


def as_numbers(values: Any, count: int, where: str) -> list[float]:
    """A JSON array of ``count`` finite numbers; errors as :func:`as_number`."""
    if not isinstance(values, list) or len(values) != count:
        raise ConfigError(f"{where} must be {count} numbers, got {_short(values)}")
    return [as_number(value, f"{where}[{i}]") for i, value in enumerate(values)]


def get(table: Any, key: str, kind: type, where: str) -> Any:
    """``table[key]`` of a JSON object, which must be a ``kind``.

    Raises:
        ConfigError: it is missing, or of another type.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be an object, got {_short(table)}")
    value = table.get(key)
    # True is an int to Python.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where} must have {key!r} of type {kind.__name__}, got {_short(value)}")
    return value


def as_size(table: Any, width: str, height: str, where: str) -> tuple[int, int]:
    """(width, height) in whole pixels, of two keys of a JSON object.

    Raises:
        ConfigError: they are none.
    """
    size = []
    for key in (width, height):
        number = as_number(table.get(key), f"{where}, {key}")
        if number != int(number) or number < 1:
            raise ConfigError(f"{where}, {key} must be a whole number of pixels, got {_short(table.get(key))}")
        size.append(int(number))
    return size[0], size[1]


def identifier(table: Any, key: str, where: str) -> int | str:
    """``table[key]`` of a JSON object, which others refer to by this number or text.

    Raises:
        ConfigError: it is missing, or of another type.
    """
    kind = str if isinstance(table, dict) and isinstance(table.get(key), str) else int
    value: int | str = get(table, key, kind, where)
    return value


def refuse_fractions(entries: Sequence[Entry]) -> None:
    """Refuse a file of pixels whose points all lie within the first pixel: they are fractions of the picture.

    Raises:
        ConfigError: they are.
    """
    named = [entry for entry in entries if len(entry.points)]
    points = np.concatenate([entry.points for entry in named]) if named else np.zeros((0, 2))
    is_fraction = len(points) > 0 and bool(((points >= 0) & (points <= 1)).all()) and bool((points % 1).any())
    if is_fraction and not any(entry.shares for entry in named):
        x, y = points[0]
        raise ConfigError(
            f"{named[0].place(0)}: all points lie within 0 to 1, such as ({x:g}, {y:g}), which look like fractions of "
            "the picture; give pixels: multiply x by the width and y by the height"
        )


def in_pixels(entry: Entry, size: tuple[int, int] | None, drop_outside: bool) -> np.ndarray:
    """The entry's points in pixels of its picture, float32 [N, 2].

    Args:
        size: (width, height) of the upright picture; None if it cannot be read, which counting it will tell.
        drop_outside: leave out points outside the picture, with a warning, where the file is a published one.

    Raises:
        ConfigError: the picture has another size than the file says, or a point lies outside it.
    """
    if size is not None and entry.size not in (None, size):
        turned = "; it was annotated before the EXIF orientation turned it" if entry.size == size[::-1] else ""
        raise ConfigError(
            f"{entry.where}: the picture was annotated at {_by(entry.size)} pixels, but it has {_by(size)}{turned}; "
            "use the picture that was annotated"
        )
    size = size or entry.size
    if size is None:
        if entry.shares:
            raise ConfigError(f"{entry.where}: shares of a picture that cannot be read have no place")
        return entry.points.astype(np.float32)
    points = entry.points * size if entry.shares else entry.points
    margin = np.maximum(_MARGIN_PIXELS, _MARGIN_SHARE * np.array(size))
    outside = ((points < -margin) | (points > np.array(size) + margin)).any(axis=1)
    if outside.any() and not drop_outside:
        first = int(np.argmax(outside))
        x, y = points[first]
        raise ConfigError(
            f"{entry.place(first)}: ({x:g}, {y:g}) lies outside the picture of {_by(size)} pixels"
            + (f", as do {outside.sum() - 1} other points" if outside.sum() > 1 else "")
        )
    if outside.any():
        _log.warning("%s: left out %d points outside the picture", entry.where, outside.sum())
    return points[~outside].astype(np.float32)


def _by(size: tuple[int, int] | None) -> str:
    assert size is not None
    return f"{size[0]} x {size[1]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
