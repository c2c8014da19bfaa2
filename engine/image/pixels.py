"""Any accepted array to uint8 RGB: channels, transparency, and EXIF orientation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.ranges import Warn, eight_bit, white_level

# Pixels converted at a time: temporaries stay in tens of megabytes whatever the picture's size.
_BAND_PIXELS = 1 << 21
# Transparent pixels are shown on white, as browsers and most viewers print them.
_BACKGROUND = 255
# A picture is dark if so many percent of its pixels, of a grid of so many rows and columns, are below this level.
_BRIGHT_SHARE, _LOOKS, _DARK = 90, 64, 64
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


def rgb_from_array(array: np.ndarray, name: str, warn: Warn) -> np.ndarray:
    """A new uint8 RGB picture from an array of grey, RGB or RGBA pixels.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]; see :func:`engine.image.ranges.white_level` for dtypes.
        name: what errors call the picture.
        warn: gets a sentence for whatever was assumed.

    Returns:
        uint8 [H, W, 3], C-contiguous, never sharing memory with ``array``.
    """
    height, width = array.shape[:2]
    pixels = array[..., None] if array.ndim == 2 else array
    parts = list(bands(width, height))
    # A program that makes floats of a picture may leave its alpha alone.
    white = white_level((pixels[rows, :, :3] for rows in parts), name, warn)
    opaque = white_level((pixels[rows, :, 3] for rows in parts), name, warn) if pixels.shape[2] == 4 else 1
    return fill_rgb(
        width,
        height,
        lambda rows: (
            eight_bit(pixels[rows, :, :3], white),
            eight_bit(pixels[rows, :, 3:], opaque) if pixels.shape[2] == 4 else None,
        ),
        warn,
    )


def fill_rgb(
    width: int, height: int, read: Callable[[slice], tuple[np.ndarray, np.ndarray | None]], warn: Warn
) -> np.ndarray:
    """A picture uint8 [height, width, 3] of its rows, which are put on white where they are transparent.

    A picture that would be hidden as a whole is taken as if it were opaque: its alpha was never filled in.

    Args:
        read: colours uint8 [h, width, 1 or 3] of a slice of rows, and their alpha uint8 [h, width, 1] or None.
        warn: is told of a picture that is hidden.
    """
    rgb = np.empty((height, width, 3), np.uint8)
    hidden = True
    for rows in bands(width, height):
        colours, alpha = read(rows)
        hidden = hidden and alpha is not None and not alpha.any()
        rgb[rows] = colours if alpha is None else _on_background(colours, alpha)
    if hidden:
        warn("its transparency hides the whole picture; it was counted as if it were opaque")
        for rows in bands(width, height):
            rgb[rows] = read(rows)[0]
    return rgb


def is_dark(rgb: np.ndarray) -> bool:
    """Whether a picture uint8 [H, W, 3] is so dark that one can hardly see anybody, judged by some thousand pixels."""
    height, width = rgb.shape[:2]
    looked_at = rgb[:: -(-height // _LOOKS), :: -(-width // _LOOKS)]
    return bool(np.percentile(looked_at.max(axis=2), _BRIGHT_SHARE) < _DARK)


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


def _on_background(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite uint8 [H, W, 1 or 3] of alpha uint8 [H, W, 1] on the background; exact where alpha is 0 or 255."""
    # Most pictures are opaque, and the arithmetic below is ten times slower than a look.
    if alpha.min() == 255:
        return colours
    weights = alpha.astype(np.uint32)
    blended = colours * weights + _BACKGROUND * (255 - weights)
    return ((blended + 127) // 255).astype(np.uint8)
