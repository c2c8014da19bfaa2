"""A painted picture as the bytes of a file."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from engine.errors import ConfigError

# By the suffix of the file's name.
KINDS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
# Suffixes of all that a result is saved as: a picture, its data, its points, its density map.
SAVED = (*KINDS, ".json", ".csv", ".npy")
# Small coloured dots smear when JPEG halves the colour resolution.
_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 92, "subsampling": 0}, "WEBP": {"quality": 92}}


def encode_picture(picture: Image.Image, suffix: str) -> bytes:
    """The picture in the format of ``suffix``, one of :data:`KINDS`.

    Raises:
        ConfigError: the format cannot hold it, as JPEG and WebP cannot hold large sides.
    """
    file, kind = io.BytesIO(), KINDS[suffix]
    try:
        picture.save(file, kind, **_OPTIONS.get(kind, {}))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{kind} cannot hold this picture ({error}); save it as .png") from error
    return file.getvalue()
