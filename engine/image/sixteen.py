"""Colour of 16 bits, of which Pillow keeps the upper 8: too few where a file uses but 10 or 12 of its bits."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image

from engine.image.pixels import bands, fill_rgb
from engine.image.ranges import Warn, eight_bit, white_level

# Orders of the bytes in Pillow's names of pixels, such as RGB;16B, and the opposite ones, by which Pillow keeps the
# lower byte. N, the machine's own, is what decoders of compressed TIFF files give.
_OPPOSITE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_MODES = tuple(f"{mode};16{order}" for mode in ("RGB", "RGBA", "RGBX") for order in _OPPOSITE)
# Upper bytes from which on at least 15 bits are used, of which 8 are enough.
_FULL = 64


def has_sixteen_bits(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has colours of 16 bits."""
    return bool(getattr(image, "tile", ())) and all(_raw_mode(tile) in _MODES for tile in image.tile)  # type: ignore[attr-defined]


def uses_few_bits(image: Image.Image) -> bool:
    """Whether a loaded image of 16 bits uses so few that its upper bytes say too little."""
    return all(high < _FULL for _, high in image.getextrema()[:3])  # type: ignore[misc]


def read_lower_bytes(image: Image.Image) -> None:
    """Make an image that is not loaded yet give the lower bytes in place of the upper ones."""
    image.tile = [_with_opposite_order(tile) for tile in image.tile]  # type: ignore[attr-defined]


def rgb_of_sixteen(upper: Image.Image, lower: Image.Image, name: str, warn: Warn) -> np.ndarray:
    """uint8 [H, W, 3] of the upper and the lower bytes of a picture, RGB or RGBA, both loaded."""
    width, height = upper.size

    def read(rows: slice) -> np.ndarray:
        box = (0, rows.start, width, rows.stop)
        high, low = (np.asarray(image.crop(box)) for image in (upper, lower))
        return high.astype(np.uint16) << 8 | low

    parts = list(bands(width, height))
    white = white_level((read(rows)[..., :3] for rows in parts), name, warn)
    if upper.mode != "RGBA":
        return fill_rgb(width, height, lambda rows: (eight_bit(read(rows), white), None), warn)
    opaque = white_level((read(rows)[..., 3] for rows in parts), name, warn)

    def colours_and_alpha(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        pixels = read(rows)
        return eight_bit(pixels[..., :3], white), eight_bit(pixels[..., 3:], opaque)

    return fill_rgb(width, height, colours_and_alpha, warn)


def _raw_mode(tile: Any) -> Any:
    """The name of the pixels in a tile of Pillow's, whose decoders take it alone or before other arguments."""
    return tile.args if isinstance(tile.args, str) else tile.args[0]


def _with_opposite_order(tile: Any) -> Any:
    mode = _raw_mode(tile)
    opposite = mode[:-1] + _OPPOSITE[mode[-1]]
    return tile._replace(args=opposite if isinstance(tile.args, str) else (opposite, *tile.args[1:]))
