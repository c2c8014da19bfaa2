"""What an annotation file says of one picture, and the checks that hold for every format."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import ConfigError

_log = logging.getLogger("engine")

# Where a file has several labels, the first of these that is there is counted.
_PEOPLE = ("head", "heads", "person", "persons", "people", "pedestrian", "human")
# How far a point may lie outside its picture: people whose head is cut by the edge are marked there.
_MARGIN_SHARE, _MARGIN_PIXELS = 0.02, 2


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
        size: (width, height) of the picture, where the file gives it.
        shares: the points are shares of the sides, not pixels.
        split: "train", "val" or "test" where the format says so itself.
        folder: of the annotation file; None leaves it to the reader of the file.
    """

    names: tuple[str, ...]
    points: np.ndarray
    where: str
    row: str = "point {}"
    rows: Sequence[int] | None = None
    labels: Sequence[str] = ()
    size: tuple[int, int] | None = None
    shares: bool = False
    split: str | None = None
    folder: Path | None = None

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
    try:
        points = np.asarray(rows, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{where}: points must be pairs of numbers [[x, y], ...]: {error}") from error
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise ConfigError(f"{where}: points must be pairs [[x, y], ...], got an array of shape {points.shape}")
    if not np.isfinite(points).all():
        raise ConfigError(f"{where}: points must be pairs of numbers, got a missing or infinite coordinate")
    return points.reshape(-1, 2)


def as_number(value: Any, where: str) -> float:
    """A finite number of a JSON file.

    Raises:
        ConfigError: it is something else; the message says what.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
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
    if not isinstance(table.get(key), kind):
        raise ConfigError(f"{where} must have {key!r} of type {kind.__name__}, got {_short(table.get(key))}")
    return table[key]


def choose_labels(entries: Sequence[Entry], wanted: Sequence[str], where: str) -> list[Entry]:
    """The entries with the points of those labels that stand for people.

    Args:
        wanted: labels to count; none given takes the only one that there is, or the first that names people ("head"
            before "person", so that nobody counts twice).

    Raises:
        ConfigError: a wanted label is not there, or it cannot be told which are people.
    """
    found = Counter(label for entry in entries for label in entry.labels)
    if missing := set(wanted) - set(found):
        known = ", ".join(map(repr, sorted(found))) or "none"
        raise ConfigError(f"{where} has no label {', '.join(map(repr, sorted(missing)))}; it has {known}")
    chosen = set(wanted or _people(found, where))
    if left := {label: count for label, count in found.items() if label not in chosen}:
        counts = ", ".join(f"{count} of {label!r}" for label, count in sorted(left.items())[:5])
        _log.warning("%s: counted are %s; left out: %s", where, " and ".join(map(repr, sorted(chosen))), counts)
    else:
        return list(entries)
    return [entry.keep(np.array([label in chosen for label in entry.labels], bool)) for entry in entries]


def _people(found: Counter[str], where: str) -> list[str]:
    if len(found) < 2:
        return list(found)
    for name in _PEOPLE:
        if called_so := [label for label in found if label.strip().casefold() == name]:
            return called_so
    raise ConfigError(
        f"{where} has the labels {', '.join(map(repr, sorted(found)[:10]))}, and none is called "
        f"{' or '.join(_PEOPLE[:3:2])}; say which are people: --label NAME"
    )


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
