"""Label Studio: one JSON file of tasks, with keypoints, rectangles, ellipses and outlines in percent."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from engine.dataset.entry import Entry, Head, as_number, as_numbers, as_size, get
from engine.dataset.shapes import middle, rotated_middle
from engine.errors import ConfigError

_log = logging.getLogger("engine")
_SHAPES = ("keypoint", "rectangle", "ellipse", "polygon")
# What is said of a shape or of the picture.
_NO_SHAPES = ("labels", "choices", "textarea", "rating", "number", "taxonomy", "datetime")
# Put in front of the name of an uploaded file.
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")


def read(data: Any, where: str) -> list[Entry]:
    """One entry a task that somebody has annotated.

    Raises:
        ConfigError: a task names no picture, or several people have annotated it; the message has its key.
    """
    if not isinstance(data, list):
        raise ConfigError(f"{where} must hold a list of tasks, got a {type(data).__name__}")
    entries, left_out = [], set[str]()
    for i, task in enumerate(data):
        key = f"{where}, [{i}]"
        if isinstance(task, dict) and "data" not in task:
            raise ConfigError(f"{key} has no 'data'; export from Label Studio as JSON, not as JSON-MIN")
        chosen = _annotation(task, key)
        if chosen is not None:
            number, annotation = chosen
            entries.append(_entry(task, annotation, f"{key}.annotations[{number}]", left_out))
    if left_out:
        _log.warning("%s: left out results that are no heads: %s", where, ", ".join(sorted(left_out)))
    return entries


def write(pictures: list[tuple[str, tuple[int, int], list[list[float]]]]) -> list[dict[str, Any]]:
    """Each head as a keypoint of a finished annotation; to be imported with a KeyPointLabels tag called head."""
    tasks = []
    for number, (name, (width, height), points) in enumerate(pictures, 1):
        result = [
            {
                "id": f"head{i}", "type": "keypointlabels", "from_name": "head", "to_name": "image",
                "original_width": width, "original_height": height, "image_rotation": 0,
                "value": {"x": 100 * x / width, "y": 100 * y / height, "width": 0.5, "keypointlabels": ["head"]},
            }
            for i, (x, y) in enumerate(points)
        ]  # fmt: skip
        tasks.append({"id": number, "data": {"image": name}, "annotations": [{"result": result}]})
    return tasks


def _annotation(task: Any, key: str) -> tuple[int, dict[str, Any]] | None:
    """The annotation that holds: the one that was marked as the truth, or the only one that was not cancelled."""
    annotations = [
        (i, annotation)
        for i, annotation in enumerate(get(task, "annotations", list, key))
        if isinstance(annotation, dict) and not annotation.get("was_cancelled")
    ]
    chosen = [pair for pair in annotations if pair[1].get("ground_truth")] or annotations
    if len(chosen) > 1:
        raise ConfigError(f"{key} has {len(annotations)} annotations; mark one as the ground truth in Label Studio")
    return chosen[0] if chosen else None


def _entry(task: dict[str, Any], annotation: dict[str, Any], key: str, left_out: set[str]) -> Entry:
    heads: list[Head] = []
    results = get(annotation, "result", list, key)
    # Where shape and label are drawn with two tools, they are two results of one id.
    labels = {str(r.get("id")): _label(r) for r in results if isinstance(r, dict) and r.get("type") == "labels"}
    sizes: set[tuple[int, int]] = set()
    for i, result in enumerate(results):
        where = f"{key}.result[{i}]"
        kind = get(result, "type", str, where)
        if kind in _NO_SHAPES:
            continue
        if kind.removesuffix("labels") not in _SHAPES:
            left_out.add(kind)
            continue
        if result.get("image_rotation"):
            raise ConfigError(f"{where}: the picture was turned in Label Studio; turn the file itself")
        size = _size(result, where)
        if size is not None:
            sizes.add(size)
        x, y = _place(kind.removesuffix("labels"), get(result, "value", dict, where), size, f"{where}.value")
        heads.append((i, _label(result) or labels.get(str(result.get("id")), ""), x / 100, y / 100))
    if len(sizes) > 1:
        raise ConfigError(f"{key} has results of pictures of several sizes: {sorted(sizes)}")
    return Entry.of_heads(_names(task, key), heads, key, "result[{}]", size=next(iter(sizes), None), shares=True)


def _label(result: dict[str, Any]) -> str:
    labels = result["value"].get(result.get("type")) if isinstance(result.get("value"), dict) else None
    return str(labels[0]) if isinstance(labels, list) and labels else ""


def _size(result: dict[str, Any], where: str) -> tuple[int, int] | None:
    """What the picture measured; Label Studio's own library leaves it out."""
    if result.get("original_width") is None:
        return None
    return as_size(result, "original_width", "original_height", where)


def _place(kind: str, value: dict[str, Any], size: tuple[int, int] | None, where: str) -> tuple[float, float]:
    """Where a head is, in percent of the picture's sides."""
    if kind == "polygon":
        corners = get(value, "points", list, where)
        if not corners:
            raise ConfigError(f"{where} has no points")
        return middle([as_numbers(corner, 2, f"{where}.points[{i}]") for i, corner in enumerate(corners)])
    x, y = (as_number(value.get(name), f"{where}.{name}") for name in ("x", "y"))
    if kind != "rectangle":
        return x, y
    width, height = (as_number(value.get(name), f"{where}.{name}") for name in ("width", "height"))
    degrees = as_number(value.get("rotation", 0), f"{where}.rotation")
    if not degrees:
        return x + width / 2, y + height / 2
    if size is None or min(size) < 1:
        raise ConfigError(f"{where}: a box that is turned needs original_width and original_height in its result")
    # It is turned in pixels, and a percent of the width is not as long as one of the height.
    ratio = size[1] / size[0]
    x, below = rotated_middle(x, 0, width, height * ratio, degrees)
    return x, y + below / ratio


def _names(task: dict[str, Any], key: str) -> tuple[str, ...]:
    """What the picture may be called here: its path in the task, without what uploading put in front."""
    texts = [text for text in get(task, "data", dict, key).values() if isinstance(text, str) and text]
    if not texts:
        raise ConfigError(f"{key}: the task names no picture")
    names: list[str] = []
    for path in (path for text in _likely(texts) for path in _paths(text)):
        folder, _, last = path.rpartition("/")
        names += [path, f"{folder}/{_UPLOAD.sub('', last)}"]
    return tuple(dict.fromkeys(names))


def _paths(text: str) -> list[str]:
    """The paths that a text may stand for: itself, and if it is an address, that of the address."""
    if not re.match(r"[a-zA-Z][\w+.-]*://|/", text):
        # Such as we write them: "#", "?" and "%" are characters of the name.
        return [text]
    try:
        address = urlsplit(text)
    except ValueError:
        return [text]
    if local := parse_qs(address.query).get("d"):
        return [local[0]]
    return [text, unquote(address.path) or text]


def _likely(texts: Sequence[str]) -> list[str]:
    """First what looks like a file: a task may have a caption beside its picture."""
    return sorted(texts, key=lambda text: not re.search(r"\.\w{2,5}($|[?#])", text))
