"""Zones and lines that were drawn in an annotation tool: LabelMe's JSON, and COCO's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import ConfigError
from engine.zones.layout import FRACTIONS, PIXELS

# A corner at the picture's edge may be drawn a little outside it.
_MARGIN = 0.02
# Shapes that are no zones, but may be in the same file: the heads.
_HEADS = ("point", "points", "circle")
# No picture has so many pixels on a side.
_LONGEST = 10**9


def from_tool(data: Any) -> dict[str, Any] | None:
    """What :meth:`ZoneLayout.from_dict` takes, from the data of LabelMe's or COCO's file; None if it is neither.

    LabelMe's outlines and rectangles are zones, and its lines are lines. COCO's outlines are zones, called as their
    category is. Where several have one name they are numbered. With the size of the picture that they were drawn on,
    they are fractions of it, and fit smaller and larger copies.

    Raises:
        ConfigError: a shape is none, lies outside its picture, or COCO's are of several pictures.

    >>> from_tool({"shapes": [{"label": "gate", "points": [[0, 0], [9, 5]], "shape_type": "rectangle"}],
    ...            "imagePath": "a.jpg", "imageWidth": 10, "imageHeight": 5})["zones"]
    {'gate': [(0.0, 0.0), (0.9, 0.0), (0.9, 1.0), (0.0, 1.0)]}
    """
    if not isinstance(data, Mapping):
        return None
    if "shapes" in data and "imagePath" in data:
        shapes = [_labelme(shape, f"shapes[{i}]") for i, shape in enumerate(_list(data, "shapes"))]
        return _layout([shape for shape in shapes if shape], data.get("imageWidth"), data.get("imageHeight"))
    if "images" in data and "annotations" in data:
        return _coco(data)
    return None


def _layout(shapes: Sequence[tuple[str, str, list[Any]]], width: Any, height: Any) -> dict[str, Any]:
    """Part ("zones" or "lines"), name and corners of each -> the layout's data."""
    counts, seen = Counter(name for _, name, _ in shapes), Counter[str]()
    known = all([_is_side(width, "width"), _is_side(height, "height")])
    layout: dict[str, Any] = {"unit": FRACTIONS if known else PIXELS, "zones": {}, "lines": {}}
    for part, name, corners in shapes:
        seen[name] += 1
        unique = f"{name} {seen[name]}" if counts[name] > 1 else name
        if unique in layout["zones"] or unique in layout["lines"]:
            raise ConfigError(f"{unique!r} is there twice; give one of them another label")
        layout[part][unique] = _fractions(corners, width, height, unique) if known else corners
    return layout


def _is_side(value: Any, name: str) -> bool:
    """Whether it is a side of a picture; false for none."""
    if value is None or value == 0:
        return False
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LONGEST:
        raise ConfigError(f"the picture's {name} must be a whole number of pixels, got {value!r:.40}")
    return True


def _fractions(corners: Sequence[Any], width: int, height: int, name: str) -> list[tuple[float, float]]:
    shares = [(_number(corner, 0, name) / width, _number(corner, 1, name) / height) for corner in corners]
    if not all(-_MARGIN <= share <= 1 + _MARGIN for pair in shares for share in pair):
        raise ConfigError(f"{name!r} lies outside the picture of {width} x {height} pixels that it was drawn on")
    return [(min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)) for x, y in shares]


def _labelme(shape: Any, where: str) -> tuple[str, str, list[Any]] | None:
    if not isinstance(shape, Mapping) or not isinstance(shape.get("label"), str):
        raise ConfigError(f"{where} must have a label")
    corners, kind = _list(shape, "points", f"{where}."), shape.get("shape_type") or "polygon"
    if kind in _HEADS:
        return None
    if kind == "rectangle" and len(corners) == 2:
        (left, top), (right, bottom) = [(_number(c, 0, where), _number(c, 1, where)) for c in corners]
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if kind not in ("polygon", "rectangle", "oriented_rectangle", "line"):
        raise ConfigError(f"{where} is a {kind!r:.40}; zones are polygons or rectangles, and lines are lines")
    return "lines" if kind == "line" else "zones", shape["label"], corners


def _coco(data: Mapping[str, Any]) -> dict[str, Any]:
    images = _by_id(data, "images")
    names = _by_id(data, "categories") if data.get("categories") else {}
    shapes, drawn_on = [], set()
    for i, annotation in enumerate(_list(data, "annotations")):
        where = f"annotations[{i}]"
        if not isinstance(annotation, Mapping) or _id(annotation, "image_id", where) not in images:
            raise ConfigError(f"{where} is of no picture that is there")
        name = names.get(_id(annotation, "category_id", where), {}).get("name")
        if not isinstance(name, str):
            raise ConfigError(f"{where} is of no category that is there")
        for outline in _list(annotation, "segmentation", f"{where}."):
            numbers = outline if isinstance(outline, list) else []
            shapes.append(("zones", name, list(zip(numbers[::2], numbers[1::2], strict=False))))
        drawn_on.add(annotation["image_id"])
    if len(drawn_on) > 1:
        raise ConfigError(f"the zones are drawn on {len(drawn_on)} pictures; keep one picture in the file")
    image = images[drawn_on.pop()] if drawn_on else {}
    return _layout(shapes, image.get("width"), image.get("height"))


def _by_id(data: Mapping[str, Any], key: str) -> dict[Any, Mapping[str, Any]]:
    tables = enumerate(_list(data, key))
    return {_id(table, "id", f"{key}[{i}]"): table for i, table in tables if isinstance(table, Mapping)}


def _id(table: Mapping[str, Any], key: str, where: str) -> Any:
    value = table.get(key)
    if isinstance(value, list | Mapping):
        raise ConfigError(f"{where}.{key} must be a number or text, got {type(value).__name__}")
    return value


def _list(table: Mapping[str, Any], key: str, where: str = "") -> list[Any]:
    if not isinstance(table.get(key), list):
        raise ConfigError(f"{where}{key} must be a list, got {type(table.get(key)).__name__}")
    values: list[Any] = table[key]
    return values


def _number(corner: Any, axis: int, where: str) -> float:
    numbers = corner if isinstance(corner, list | tuple) and len(corner) == 2 else [None, None]
    number = numbers[axis]
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e9:
        raise ConfigError(f"{where} must have corners [x, y] in pixels, got {corner!r:.120}")
    return float(number)
