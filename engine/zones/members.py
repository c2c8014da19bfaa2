"""Who is in which zone, and on which side of a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from engine.config import RATIO_OFFSET, scale_count
from engine.errors import ConfigError

Polygon: TypeAlias = Sequence[tuple[float, float]] | np.ndarray

# A drawn outline has far fewer; what a stranger's file holds is bounded.
MAX_CORNERS = 1000
_FARTHEST = 1e6
_SHARE_DEVIATIONS = 2.0
_HAIR = 1e-9


def check_shape(what: str, corners: object, least: int, most: int) -> np.ndarray:
    """Corners as float64 [least..most, 2].

    Args:
        what: how errors name the shape, such as ``zone 'gate'``.

    Raises:
        ConfigError: they are not that many finite (x, y) pairs, or all lie in one place (a line's) or on one line
            (a polygon's).
    """
    number = str(least) if least == most else f"{least} to {most}"
    try:
        array = np.asarray(corners)
    except (TypeError, ValueError):
        array = np.zeros(0)
    # Text would be read as numbers, and true as 1.
    if array.dtype.kind not in "iuf" or array.ndim != 2 or array.shape[1] != 2 or not least <= len(array) <= most:
        raise ConfigError(f"{what} must be {number} corners (x, y), got {_shorten(corners)}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ConfigError(f"{what} must have finite corners (x, y), got {_shorten(corners)}")
    if np.abs(array).max() > _FARTHEST:
        raise ConfigError(f"{what} has a corner farther than {_FARTHEST:.0f} away: {_shorten(corners)}")
    spread = array - array[0]
    farthest = spread[np.abs(spread).sum(axis=1).argmax()]
    if not farthest.any():
        raise ConfigError(f"{what} has all its corners in one place: {_shorten(corners)}")
    if least > 2 and not (spread[:, 0] * farthest[1] - spread[:, 1] * farthest[0]).any():
        raise ConfigError(f"{what} has all its corners on one line: {_shorten(corners)}")
    return array


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def count_zones(
    points: np.ndarray, zones: Mapping[str, Polygon] | None, size: tuple[int, int] | None = None
) -> dict[str, int]:
    """People inside each polygon.

    Args:
        points: float32 [N, 2], (x, y) in pixels.
        zones: polygon of at least three (x, y) corners, in pixels, by name.
        size: (width, height) of the picture; a point on its right or lower border then counts as just inside.

    Raises:
        ConfigError: a polygon is none.

    Even-odd rule, so where a polygon crosses itself its overlaps are outside. Borders are half-open: a point on an
    edge belongs to the zone to its right or, of a level edge, to the one below it. So polygons that share the corners
    of a border share no person at it and lose none. Zones that overlap both count who is in both.

    >>> count_zones(np.array([[5, 5], [10, 5]], np.float32), {"left": [(0, 0), (10, 0), (10, 10), (0, 10)]})
    {'left': 1}
    """
    places = _places(points, size)
    return {
        name: int(_inside(places, check_shape(f"zone {name!r}", polygon, 3, MAX_CORNERS)).sum())
        for name, polygon in (zones or {}).items()
    }


def _inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    x, y = points.T
    inside = np.zeros(len(points), bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # Upper end first: the two zones at a border run along it in opposite directions, and must round alike.
        (x0, y0), (x1, y1) = (start, end) if start[1] <= end[1] else (end, start)
        rows = (y0 <= y) & (y < y1)
        inside ^= rows & ((x1 - x0) * (y - y0) > (x - x0) * (y1 - y0))
    return inside


def cells_inside(shape: tuple[int, ...], corners: np.ndarray) -> np.ndarray:
    """The cells of a map [h, w] whose middles are inside a polygon [M, 2], in cells; bool [h, w].

    By the rule of :func:`count_zones`, a row at a time, but for a middle that is on a slanted edge up to rounding.
    """
    height, width = shape
    rows = np.arange(height) + 0.5
    # Places where an edge crosses a row: every cell to the left of it is inside if it was outside, and the reverse.
    crossings = np.zeros((height, width + 1), bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (x0, y0), (x1, y1) = (start, end) if start[1] <= end[1] else (end, start)
        crossed = np.flatnonzero((y0 <= rows) & (rows < y1))
        crossing = x0 + (x1 - x0) * (rows[crossed] - y0) / (y1 - y0)
        crossings[crossed, np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)] ^= True
    return np.logical_xor.accumulate(crossings[:, :0:-1], axis=1)[:, ::-1]


def in_any(points: np.ndarray, zones: Mapping[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Whether each point float32 [N, 2] of a picture of that size is in one of the polygons [M, 2]; bool [N]."""
    places, inside = _places(points, size), np.zeros(len(points), bool)
    for corners in zones.values():
        inside |= _inside(places, corners)
    return inside


def _places(points: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """The points in float64; those on the right or lower border of the picture are just inside."""
    places = points.astype(np.float64)
    return places if size is None else np.minimum(places, np.nextafter(np.array(size, np.float64), 0))


def count_sides(points: np.ndarray, lines: Mapping[str, Polygon]) -> dict[str, tuple[int, int]]:
    """People on the left and on the right of each line.

    Args:
        points: float32 [N, 2], (x, y) in pixels.
        lines: (x, y) of the start and the end, in pixels, by name. The line runs on beyond both ends, so it parts
            everybody; left and right are those of someone who walks on the picture from start to end. A point
            on the line is on the right.

    Raises:
        ConfigError: a line is not two different points.

    These are people who are there, in one picture; nobody is followed, so they are not crossings.

    >>> count_sides(np.array([[1, 1], [9, 1], [9, 9]], np.float32), {"door": [(5, 0), (5, 10)]})
    {'door': (2, 1)}
    """
    sides = {}
    for name, line in lines.items():
        (x0, y0), (x1, y1) = check_shape(f"line {name!r}", line, 2, 2)
        x, y = points.astype(np.float64).T
        right = int(((x1 - x0) * (y - y0) >= (x - x0) * (y1 - y0)).sum())
        sides[name] = len(points) - right, right
    return sides


def zone_interval(people: int, count: int, interval: tuple[int, int]) -> tuple[int, int]:
    """Interval of the people in a zone, from that of the whole picture.

    Args:
        people: in the zone; 0..count.
        count, interval: of the whole picture.

    Two errors add up. The whole's own, scaled: its ends are ratios (end + 5) / (count + 5), as in
    :func:`engine.config.scale_count`, and the zone gets the same. And that of the share: heads miscounted in
    one part make up for those in another, so a zone errs by more than its share of the whole's error; two standard
    deviations of a binomial share, 2 * sqrt(people * (1 - people / count)), are added at both ends. The zone that
    holds everybody has the interval of the whole, and none reaches above its upper end.

    The 2 was chosen on the pictures that calibrated the shipped model, cut into grids of 2x2 to 6x6 zones; on
    ShanghaiTech pictures that nothing was fitted on it held the true number in 90 to 97 % of part A's zones, and
    96 to 99 % of part B's. For a model without calibration it claims as little as the interval of the whole.

    >>> zone_interval(20, 100, (80, 130)), zone_interval(100, 100, (80, 130)), zone_interval(0, 100, (80, 130))
    ((7, 36), (80, 130), (0, 2))
    """
    low, high = interval
    apart = _SHARE_DEVIATIONS * math.sqrt(people * (1 - people / count)) if count else 0.0
    lowest, highest = (
        scale_count(people, (end + RATIO_OFFSET) / (count + RATIO_OFFSET)) + sign * apart
        for end, sign in ((low, -1), (high, 1))
    )
    # A hair, so that what is a whole number but for rounding stays that number.
    return max(math.floor(lowest + _HAIR), 0), min(math.ceil(highest - _HAIR), high)
