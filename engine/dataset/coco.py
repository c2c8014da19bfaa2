"""COCO: one JSON file of images, annotations and categories; boxes become their centres, keypoints the head's."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from engine.dataset.entry import Entry, Head, as_numbers, as_size, get, identifier
from engine.dataset.shapes import box_around, head_of, middle
from engine.errors import ConfigError

_log = logging.getLogger("engine")


@dataclass(frozen=True, eq=False)
class _Category:
    """What a category is called, its keypoints, and its supercategory."""

    name: str
    keypoints: list[str] = field(default_factory=list)
    above: str = ""


def read(data: Any, where: str) -> list[Entry]:
    """One entry an image, in the file's order.

    Regions of crowds (``iscrowd``), which stand for nobody knows how many people, are left out with a warning.

    Raises:
        ConfigError: something is missing or no number, or an image or category is not there; the message has its key.
    """
    categories = _categories(data, where)
    images = {}
    for i, image in enumerate(get(data, "images", list, where)):
        key = f"{where}, images[{i}]"
        number = identifier(image, "id", key)
        if number in images:
            raise ConfigError(f"{key}: the id {number} is there twice")
        images[number] = (get(image, "file_name", str, key), _size(image, key), f"{where}, images[{i}]")
    heads: dict[Any, list[Head]] = defaultdict(list)
    crowds = 0
    for i, annotation in enumerate(get(data, "annotations", list, where)):
        key = f"{where}, annotations[{i}]"
        number = identifier(annotation, "image_id", key)
        if number not in images:
            raise ConfigError(f"{key} is of image {number}, which is not among the images")
        if annotation.get("iscrowd") == 1:
            crowds += 1
            continue
        category = _category(annotation, categories, key)
        heads[number].append((i, category.name, *_head(annotation, category.keypoints, key)))
    if crowds:
        _log.warning("%s: left out %d regions of crowds (iscrowd), whose people are not marked", where, crowds)
    declared = _declared(categories.values())
    return [_entry(where, image, heads[number], declared) for number, image in images.items()]


def write(pictures: list[tuple[str, tuple[int, int], list[list[float]]]], side: float) -> dict[str, Any]:
    """Each head as a keypoint, with a box of ``side`` pixels around it for tools that want one."""
    head = {"id": 1, "name": "head", "supercategory": "person", "keypoints": ["head"], "skeleton": []}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, size, points in pictures:
        images.append({"id": len(images) + 1, "file_name": name, "width": size[0], "height": size[1]})
        for x, y in points:
            box = box_around(x, y, side, size)
            annotations.append({
                "id": len(annotations) + 1, "image_id": len(images), "category_id": 1, "iscrowd": 0,
                "bbox": [round(number, 3) for number in box], "area": round(box[2] * box[3], 3),
                "keypoints": [x, y, 2], "num_keypoints": 1,
            })  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": [head]}


def _entry(where: str, image: tuple[str, Any, str], heads: list[Head], declared: tuple[str, ...]) -> Entry:
    name, size, key = image
    place = where if heads else key
    return Entry.of_heads((name,), heads, place, "annotations[{}]", declared=declared, size=size)


def _categories(data: Any, where: str) -> dict[int | str, _Category]:
    """Each category by its id; nothing where the file has none."""
    if not isinstance(data, dict) or data.get("categories") in (None, []):
        return {}
    found = {}
    for i, category in enumerate(get(data, "categories", list, where)):
        key = f"{where}, categories[{i}]"
        name = get(category, "name", str, key)
        keypoints, above = category.get("keypoints", []), category.get("supercategory")
        names = keypoints if isinstance(keypoints, list) and all(isinstance(k, str) for k in keypoints) else []
        found[identifier(category, "id", key)] = _Category(name, names, above if isinstance(above, str) else "")
    return found


def _category(annotation: dict[str, Any], categories: dict[int | str, _Category], key: str) -> _Category:
    """The category of an annotation; in a file without any it is called by its number."""
    if categories or annotation.get("category_id") is not None:
        number = identifier(annotation, "category_id", key)
        if categories and number not in categories:
            raise ConfigError(f"{key} has the category {number!r}, which is not there")
        return categories.get(number, _Category(str(number)))
    return _Category("")


def _declared(categories: Collection[_Category]) -> tuple[str, ...]:
    """The names of the categories; Roboflow puts another above them, of which nothing is."""
    return tuple(
        category.name
        for category in categories
        if not any(other.above == category.name for other in categories if other is not category)
    )


def _head(annotation: dict[str, Any], names: list[str], key: str) -> tuple[float, float]:
    """A keypoint that says where the head is; else the centre of the box, or of the outline."""
    if keypoints := annotation.get("keypoints"):
        numbers = as_numbers(keypoints, 3 * max(len(names), 1), f"{key}.keypoints")
        seen = [
            (name, x, y)
            for name, x, y, visible in zip(names or [""], numbers[::3], numbers[1::3], numbers[2::3], strict=True)
            if visible > 0
        ]
        if seen and (head := seen[0][1:] if len(names) < 2 else head_of(seen)):
            return head
    if annotation.get("bbox"):
        left, top, width, height = as_numbers(annotation["bbox"], 4, f"{key}.bbox")
        if width < 0 or height < 0:
            raise ConfigError(f"{key}.bbox must be x, y, width and height, got {width:g} x {height:g}")
        return left + width / 2, top + height / 2
    outlines = annotation.get("segmentation")
    if isinstance(outlines, list) and outlines:
        corners = [corner for i, outline in enumerate(outlines) for corner in _corners(outline, key, i)]
        return middle(corners)
    raise ConfigError(f"{key} has neither keypoints nor a bbox")


def _corners(outline: Any, key: str, number: int) -> list[tuple[float, float]]:
    where = f"{key}.segmentation[{number}]"
    count = len(outline) if isinstance(outline, list) else 0
    if count < 2 or count % 2:
        raise ConfigError(f"{where} must be x, y, x, y, ..., got {count} numbers")
    numbers = as_numbers(outline, count, where)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _size(image: dict[str, Any], key: str) -> tuple[int, int] | None:
    if image.get("width") in (None, 0) and image.get("height") in (None, 0):
        return None
    return as_size(image, "width", "height", key)
