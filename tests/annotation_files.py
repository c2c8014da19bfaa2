"""Builders of annotation files, each of one format, and what is read of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.dataset.samples import find_samples

SIZE = (200, 100)


def save(data: Path, name: str, content: Any) -> None:
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (data / name).write_text(text, encoding="utf-8")


def heads(data: Path, **options) -> dict[str, list]:
    return {s.image.name: s.points.round(3).tolist() for s in find_samples(data, **options)}


def coco(*annotations: dict, categories: Any = ({"id": 1, "name": "head"},)) -> dict:
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2)]
    defaults = {"image_id": 1, "category_id": 1}
    return {
        "images": images,
        "annotations": [{"id": i, **defaults, **a} for i, a in enumerate(annotations)],
        "categories": list(categories),
    }


def cvat(*shapes: str, name: str = "1.jpg") -> str:
    inside = "\n".join(shapes)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f'<image id="0" name="{name}" width="200" height="100">\n{inside}\n</image>\n</annotations>\n'
    )


def yolo(data: Path, text: str, yaml: str | None = None) -> None:
    save(data, "labels/1.txt", text)
    (data / "images").mkdir(exist_ok=True)
    for name in ("1.jpg", "2.jpg"):
        (data / name).rename(data / "images" / name)
    if yaml is not None:
        save(data, "data.yaml", yaml)


def labelme(*shapes: dict, **changes: Any) -> dict:
    whole = [{"label": "head", "shape_type": "point", "points": [[1, 2]], **shape} for shape in shapes]
    return {"shapes": whole, "imagePath": "1.jpg", "imageWidth": 200, "imageHeight": 100, "imageData": None, **changes}


def task(*results: dict, image: str = "1.jpg", **changes: Any) -> dict:
    point = {"type": "keypointlabels", "value": {"x": 50, "y": 50, "width": 0.5, "keypointlabels": ["head"]}}
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    annotation = {"id": 1, "result": [{"id": f"r{i}", **size, **point, **r} for i, r in enumerate(results)]}
    return {"id": 1, "data": {"image": image}, "annotations": [annotation], **changes}


def box(**value: Any) -> dict:
    return {"type": "rectanglelabels", "value": {"rectanglelabels": ["head"], **value}}
