"""Zones that are valid, but surely not what was meant."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import numpy as np

from engine.zones.layout import HOW_FRACTIONS, PIXELS, Shape, ZoneLayout

# Share of a zone outside the picture from which on it seems to be drawn on another one.
_MOST_OUTSIDE = 1 / 3
# Nobody draws a zone of so few pixels; numbers about 0 to 1 are fractions.
_TINY = 2.0


def doubts(layout: ZoneLayout, size: tuple[int, int]) -> list[str]:
    """A sentence for each zone or line of which something is surely wrong, with its name and the reason.

    Told are outlines that cross themselves, outlines given twice, two zones of one outline, zones of which more than a
    third lies outside a picture of (width, height) = ``size``, and pixels that seem to be fractions.

    >>> square = [(0, 0), (9, 0), (9, 9), (0, 9)]
    >>> doubts(ZoneLayout.from_polygons({"gate": square, "door": square[::2] + square[1::2]}), (9, 9))
    ["zone 'door' crosses itself, so that parts of what it goes round are outside; give its corners in order"]
    """
    found = []
    same: dict[object, str] = {}
    for kind, shapes in (("zone", layout.zones), ("ignore zone", layout.ignore)):
        for name, shape in shapes.items():
            what = f"{kind} {name!r}"
            if reason := _doubt(shape, size):
                found.append(f"{what} {reason}")
            outline = frozenset(frozenset(edge) for edge in _edges(shape))
            if (twin := same.setdefault((kind, shape.unit, outline), what)) != what:
                found.append(f"{what} has the same outline as {twin}")
    for name, shape in layout.lines.items():
        if _is_tiny(shape):
            found.append(f"line {name!r} {_tiny_text(shape)}")
    return found


# A stream asks for every frame.
@lru_cache(maxsize=1024)
def _doubt(shape: Shape, size: tuple[int, int]) -> str:
    if _is_tiny(shape):
        return _tiny_text(shape)
    edges = _edges(shape)
    directed, undirected = Counter(edges), Counter(frozenset(edge) for edge in edges)
    # Out and back along the same way, an outline may lead to a hole in it.
    if max(directed.values()) > 1 or min(undirected.values()) > 1:
        return "goes round its outline twice, so that what is inside counts as outside; give each corner once"
    if _crosses_itself(np.array(edges)):
        return "crosses itself, so that parts of what it goes round are outside; give its corners in order"
    corners = shape.to_pixels(*size)
    whole, seen = _area(corners), _area(_clip(corners, size))
    if not seen:
        return f"lies outside the picture of {size[0]} x {size[1]} pixels"
    if seen < (1 - _MOST_OUTSIDE) * whole:
        return (
            f"lies outside the picture of {size[0]} x {size[1]} pixels by {100 * (1 - seen / whole):.0f} %; "
            "was it drawn on a picture of another size?"
        )
    return ""


def _is_tiny(shape: Shape) -> bool:
    return shape.unit == PIXELS and bool((np.ptp(np.array(shape.corners), axis=0) < _TINY).all())


def _tiny_text(shape: Shape) -> str:
    width, height = np.ptp(np.array(shape.corners), axis=0)
    return f"spans {width:.3g} x {height:.3g} pixels; {HOW_FRACTIONS}"


def _edges(shape: Shape) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """From corner to corner and back to the first, without those of no length."""
    corners = shape.corners
    return [(a, b) for a, b in zip(corners, (*corners[1:], corners[0]), strict=True) if a != b]


def _crosses_itself(edges: np.ndarray) -> bool:
    """Whether two of the edges [N, 2 ends, 2] cross; touching is not crossing."""
    start, end = edges[:, 0], edges[:, 1]
    along = end - start
    # On which side of edge i (rows) the ends of edge j (columns) lie.
    sides = [
        np.sign(along[:, None, 0] * (p - start[:, None])[..., 1] - along[:, None, 1] * (p - start[:, None])[..., 0])
        for p in (start, end)
    ]
    parts = sides[0] * sides[1] < 0
    return bool((parts & parts.T).any())


def _clip(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of a polygon [N, 2] on the picture, as a polygon (Sutherland and Hodgman); may have no corner."""
    for axis in (0, 1):
        for sign, limit in ((1.0, 0.0), (-1.0, -float(size[axis]))):
            depth = sign * corners[:, axis] - limit
            kept: list[np.ndarray] = []
            for i in range(len(corners)):
                here, there = depth[i], depth[i - 1]
                if (here >= 0) != (there >= 0):
                    kept.append(corners[i - 1] + (corners[i] - corners[i - 1]) * (there / (there - here)))
                if here >= 0:
                    kept.append(corners[i])
            corners = np.array(kept).reshape(-1, 2)
    return corners


def _area(corners: np.ndarray) -> float:
    x, y = corners.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
