"""Pixels of Pillow images as uint8 RGB.

Of colours of 16 bits Pillow keeps the upper 8, which are too few where a file uses but 10 or 12 of its bits; the lower
ones are then read as well.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.pages import turn_to
from engine.image.pixels import Warn, bands, eight_bit, fill_rgb, white_level
from engine.image.tiff import channels_lie_apart

# Orders of the bytes in Pillow's names of pixels, such as RGB;16B, and the opposite ones, by which Pillow keeps the
# lower byte. N, the machine's own, is what decoders of compressed TIFF files give.
_OPPOSITE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_WHOLE = tuple(f"{mode};16{order}" for mode in ("RGB", "RGBA", "RGBX") for order in _OPPOSITE)
# Pillow does not give the lower byte of inks, and of colours that alpha has been multiplied with.
_UPPER_ALONE = tuple(f"{mode};16{order}" for mode in ("CMYK", "RGBa") for order in _OPPOSITE)
# Upper bytes from which on at least 15 bits are used, of which 8 are enough.
_FULL = 64


def pillow_pixels(image: Image.Image, name: str, limits: ImageLimits, warn: Warn) -> np.ndarray:
    """Stored pixels of a loaded image as uint8 [H, W, 3], converted band by band to bound the memory."""
    # Loading may have changed the size that the header gave.
    width, height = image.size
    limits.check(width, height, name)

    def band(rows: slice) -> Image.Image:
        return image.crop((0, rows.start, width, rows.stop))

    # "I" is a carrier of 16-bit grey too; these modes have no white level of their own.
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        white = white_level((np.asarray(band(rows)) for rows in bands(width, height)), name, warn)
        # Pillow turns black and white of a TIFF file round where that is stored, but not in these modes.
        is_negative = getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0

        def grey(rows: slice) -> np.ndarray:
            pixels = eight_bit(np.asarray(band(rows))[..., None], white)
            return 255 - pixels if is_negative else pixels

        return fill_rgb(width, height, lambda rows: (grey(rows), None), warn)
    return fill_rgb(width, height, lambda rows: _colours_and_alpha(band(rows)), warn)


def sixteen_bit_mode(image: Image.Image) -> str | None:
    """What Pillow calls the colours of 16 bits of an image that is not loaded yet; None if it has no such ones."""
    modes = {_raw_mode(tile) for tile in getattr(image, "tile", ())}
    return modes.pop() if len(modes) == 1 and modes <= {*_WHOLE, *_UPPER_ALONE} else None


def uses_few_bits(image: Image.Image, mode: str) -> bool:
    """Whether a loaded image of 16 bits uses so few that its upper bytes say too little."""
    highs = [high for _, high in image.getextrema()]  # type: ignore[misc]
    if mode in _WHOLE:
        return max(highs[:3]) < _FULL
    # Colours are at most as large as the alpha that they were multiplied with, by which Pillow has divided them.
    return 0 < (highs[3] if mode.startswith("RGBa") else max(highs)) < _FULL


def sixteen_bit_pixels(upper: Image.Image, again: Image.Image, page: int | None, name: str, warn: Warn) -> np.ndarray:
    """As :func:`pillow_pixels`, of all 16 bits; ``again`` is the same file, freshly opened.

    Raises:
        ImageError: Pillow gives no more than the upper ones.
    """
    turn_to(again, page, name, lambda _: None)
    if sixteen_bit_mode(again) not in _WHOLE or channels_lie_apart(again):
        raise ImageError(
            f"{name} uses too few of its 16 bits to be read as it is stored; convert it to 8 bits, or to RGB without "
            "alpha and with PlanarConfiguration 1"
        )
    again.tile = [_with_opposite_order(tile) for tile in again.tile]  # type: ignore[attr-defined]
    again.load()
    return _rgb_of_sixteen(upper, again, name, warn)


def _rgb_of_sixteen(upper: Image.Image, lower: Image.Image, name: str, warn: Warn) -> np.ndarray:
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


def _colours_and_alpha(band: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    if band.mode == "La":
        # Pillow has no way from premultiplied grey to RGBA but this.
        band = band.convert("LA")
    if not band.has_transparency_data:
        return np.asarray(band.convert("RGB")), None
    rgba = np.asarray(band.convert("RGBA"))
    return rgba[..., :3], rgba[..., 3:]


def _raw_mode(tile: Any) -> Any:
    """The name of the pixels in a tile of Pillow's, whose decoders take it alone or before other arguments."""
    return tile.args if isinstance(tile.args, str) else tile.args[0]


def _with_opposite_order(tile: Any) -> Any:
    mode = _raw_mode(tile)
    opposite = mode[:-1] + _OPPOSITE[mode[-1]]
    return tile._replace(args=opposite if isinstance(tile.args, str) else (opposite, *tile.args[1:]))
