"""Boxes, outlines and skeletons -> the one point of a head."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Names of keypoints that stand for the head, the best first; else it is where these of COCO's are.
_HEAD = ("head", "head_center", "head_centre", "nose")
_FACE = ("left_eye", "right_eye", "left_ear", "right_ear")


def middle(points: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Centre of the box around some points [N, 2]."""
    x, y = zip(*points, strict=True)
    return (min(x) + max(x)) / 2, (min(y) + max(y)) / 2


def rotated_middle(x: float, y: float, width: float, height: float, degrees: float) -> tuple[float, float]:
    """Centre of a box that was turned clockwise about its corner (x, y)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return x + (width * cos - height * sin) / 2, y + (width * sin + height * cos) / 2


def head_of(keypoints: Sequence[tuple[str, float, float]]) -> tuple[float, float] | None:
    """The head among the named keypoints that are there; None if none of them says where it is.

    >>> head_of([("left_ear", 4, 2), ("right_ear", 8, 2), ("left_foot", 5, 20)])
    (6.0, 2.0)
    """
    places = {name.strip().casefold(): (x, y) for name, x, y in keypoints}
    for name in _HEAD:
        if name in places:
            return places[name]
    face = [places[name] for name in _FACE if name in places]
    return middle(face) if face else None


def box_around(x: float, y: float, side: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, width, height) of a box with that centre, smaller where the picture of ``size`` ends before."""
    half_width = max(min(side / 2, x, size[0] - x), 0.5)
    half_height = max(min(side / 2, y, size[1] - y), 0.5)
    return x - half_width, y - half_height, 2 * half_width, 2 * half_height
