"""Generated pictures, and files of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

SIZES = [(1, 1), (1, 7), (9, 1), (13, 17), (64, 48)]
# name -> (Pillow format, options); the lossless ones give back exactly what was saved.
LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "ppm": ("PPM", {}),
}
LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "jpeg-progressive": ("JPEG", {"progressive": True}),
    "jpeg-444": ("JPEG", {"subsampling": 0}),
    "webp-lossy": ("WEBP", {}),
    "gif": ("GIF", {}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
}
FORMATS = LOSSLESS | LOSSY


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Gradients, which every channel order and orientation changes, and which lossy formats keep closely."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 200 // width + 30, y * 200 // height + 30, (x + y) * 100 // (width + height)], -1).astype(
        np.uint8
    )


def encoded(picture: np.ndarray | Image.Image, kind: str = "png", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    name, defaults = FORMATS[kind]
    image.save(file, name, **{**defaults, **options})
    return file.getvalue()
