"""Channel and bit-depth conversion: any accepted array to uint8 RGB, and EXIF orientation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.config import ImageLimits
from engine.errors import ImageError

# Pixels converted at a time: temporaries stay in tens of megabytes whatever the picture's size.
_BAND_PIXELS = 1 << 21
# Transparent pixels are shown on white, as browsers and most viewers print them.
_BACKGROUND = 255
# EXIF orientation -> (transpose, reverse rows, reverse columns), applied in this order.
_ORIENTATIONS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def check_size(width: int, height: int, name: str, limits: ImageLimits) -> None:
    """Refuse an empty picture, or one of more than ``limits.max_pixels``."""
    if width < 1 or height < 1:
        raise ImageError(f"{name} is {width}x{height} pixels; a picture needs at least 1x1")
    if width * height > limits.max_pixels:
        raise ImageError(
            f"{name} is {width}x{height} = {width * height} pixels, more than the limit of {limits.max_pixels}; "
            "shrink it, or raise ImageLimits.max_pixels (CROWD_MAX_PIXELS)"
        )


def bands(width: int, height: int) -> Iterator[slice]:
    """Slices of rows that cover a picture, each of about two megapixels."""
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def rgb_from_array(array: np.ndarray, name: str) -> np.ndarray:
    """A new uint8 RGB picture from an array of grey, RGB or RGBA pixels.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]; see :func:`eight_bit` for dtypes.
        name: what errors call the picture.

    Returns:
        uint8 [H, W, 3], C-contiguous, never sharing memory with ``array``.
    """
    height, width = array.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    for rows in bands(width, height):
        fill_rgb(rgb[rows], array[rows], name)
    return rgb


def fill_rgb(rgb: np.ndarray, array: np.ndarray, name: str) -> None:
    """Write an array of grey, RGB or RGBA pixels into ``rgb``, uint8 [H, W, 3]."""
    pixels = eight_bit(array, name)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] == 4:
        pixels = _on_background(pixels)
    rgb[...] = pixels


def eight_bit(array: np.ndarray, name: str) -> np.ndarray:
    """Scale pixels to uint8 by the whole range of their type, rounding to nearest.

    Args:
        array: bool (black and white), uint8, uint16 in [0, 65535] or floating point in [0, 1].

    Raises:
        ImageError: another dtype, NaN, infinity, or a float outside [0, 1].

    >>> eight_bit(np.array([0, 128, 129, 65535], np.uint16), "a").tolist()
    [0, 0, 1, 255]
    >>> eight_bit(np.array([0.0, 0.5, 1.0]), "a").tolist()
    [0, 128, 255]
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        # 65535 = 255 * 257, so this is the exact rounding of value * 255 / 65535.
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ImageError(
            f"{name} has dtype {array.dtype}; expected uint8, uint16, bool, or floats in [0, 1]: "
            "scale it to 0..255 and convert it with .astype(np.uint8)"
        )
    # One pass finds both kinds of mistake, since every comparison with NaN is false.
    if not bool(((array >= 0) & (array <= 1)).all()):
        low, high = array.min(), array.max()
        raise ImageError(f"{name} has floats from {low} to {high}; expected finite values in [0, 1]: divide by 255?")
    # Half floats would round k + 0.5 away; float32 is exact enough for 8 bits, and wider types keep theirs.
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    return np.floor(wide * 255 + 0.5).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn a stored picture the way its EXIF orientation (1 to 8) says it is viewed.

    Args:
        pixels: uint8 [H, W, 3].
        orientation: values outside 2..8 mean "as stored", as the EXIF standard has it.

    Returns:
        uint8 [H, W, 3] or [W, H, 3], C-contiguous; ``pixels`` itself where nothing turns.

    Source: EXIF 2.32, tag 274.

    >>> upright(np.array([[[1, 1, 1], [2, 2, 2]]], np.uint8), 6)[..., 0].tolist()
    [[1], [2]]
    """
    transpose, flip_rows, flip_columns = _ORIENTATIONS.get(orientation, (False, False, False))
    view = pixels.transpose(1, 0, 2) if transpose else pixels
    view = view[::-1] if flip_rows else view
    view = view[:, ::-1] if flip_columns else view
    return np.ascontiguousarray(view)


def _on_background(rgba: np.ndarray) -> np.ndarray:
    """Composite uint8 [H, W, 4] on the background; exact where alpha is 0 or 255."""
    # Most pictures are opaque, and the arithmetic below is ten times slower than a look.
    if rgba[..., 3].min() == 255:
        return rgba[..., :3]
    alpha = rgba[..., 3:].astype(np.uint32)
    if not alpha.any():
        return np.full((*rgba.shape[:2], 3), _BACKGROUND, np.uint8)
    blended = rgba[..., :3] * alpha + _BACKGROUND * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
