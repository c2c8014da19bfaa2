"""LabelMe: one JSON file a picture, with points, rectangles, circles and outlines."""

from __future__ import annotations

import logging
from typing import Any

from engine.dataset.entry import Entry, Head, as_numbers, as_size, get
from engine.dataset.shapes import middle
from engine.errors import ConfigError

_log = logging.getLogger("engine")
_OUTLINES = ("rectangle", "polygon", "oriented_rectangle")


def read(data: Any, where: str) -> list[Entry]:
    """The one picture of a file.

    Points and the centres of circles are heads, and so are the middles of rectangles and outlines; lines and masks
    are left out with a warning.

    Raises:
        ConfigError: a shape lacks something; the message has its key.
    """
    heads: list[Head] = []
    left_out: set[str] = set()
    for i, shape in enumerate(get(data, "shapes", list, where)):
        key = f"{where}, shapes[{i}]"
        label = get(shape, "label", str, key)
        kind = shape.get("shape_type") or "polygon"
        corners = [as_numbers(p, 2, f"{key}.points[{j}]") for j, p in enumerate(get(shape, "points", list, key))]
        if not corners:
            raise ConfigError(f"{key} has no points")
        if kind == "points":
            heads += [(i, label, x, y) for x, y in corners]
        elif kind in ("point", "circle"):
            heads.append((i, label, *corners[0]))
        elif kind in _OUTLINES:
            heads.append((i, label, *middle(corners)))
        else:
            left_out.add(str(kind))
    if left_out:
        _log.warning("%s: left out shapes that are no heads: %s", where, ", ".join(sorted(left_out)))
    name = get(data, "imagePath", str, where)
    return [Entry.of_heads((name,), heads, where, "shapes[{}]", size=_size(data, where))]


def write(name: str, size: tuple[int, int], points: list[list[float]]) -> dict[str, Any]:
    """The file of one picture; ``name`` is its path from that file's folder."""
    shapes: list[dict[str, Any]] = [
        {"label": "head", "points": [point], "group_id": None, "description": "", "shape_type": "point", "flags": {}}
        for point in points
    ]
    # The version is that of the format's description that this follows.
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
            "imageHeight": size[1], "imageWidth": size[0]}  # fmt: skip


def _size(data: dict[str, Any], where: str) -> tuple[int, int] | None:
    if data.get("imageWidth") is None or data.get("imageHeight") is None:
        return None
    return as_size(data, "imageWidth", "imageHeight", where)
