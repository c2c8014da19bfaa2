"""Any accepted array to uint8 RGB: which number is white, channels and transparency."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from engine.errors import ImageError

Warn = Callable[[str], None]

# Largest values of 8, 10, 12, 14 and 16 bits; files of 16 bits often hold what a sensor gave in fewer.
_WHITE_LEVELS = (255, 1023, 4095, 16383, 65535)
# Floats that go beyond 1 by less than this factor have been resampled, say; from it on they count in levels.
_OVERSHOOT = 2.0
# Pixels converted at a time: temporaries stay in tens of megabytes whatever the picture's size.
_BAND_PIXELS = 1 << 21
# Transparent pixels are shown on white, as browsers and most viewers print them.
_BACKGROUND = 255


def bands(width: int, height: int) -> Iterator[slice]:
    """Slices of rows that cover a picture, each of about two megapixels."""
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def rgb_from_array(array: np.ndarray, name: str, warn: Warn) -> np.ndarray:
    """A new uint8 RGB picture from an array of grey, RGB or RGBA pixels.

    Args:
        array: [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]; see :func:`white_level` for dtypes.
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


def white_level(parts: Iterable[np.ndarray], name: str, warn: Warn) -> float:
    """The number that stands for white in a picture, judged by its largest one.

    Args:
        parts: arrays of one type that make up the picture; each is looked at once.
        name: what errors call the picture.
        warn: gets a sentence where values are cut off.

    Returns:
        255, 1023, 4095, 16383 or 65535, the smallest that no value exceeds; 1 for floats of 0 to 1. So 12 bits in a
        file of 16 are told from 16 bits, and an array of 0 to 255 from one of 0 to 1, whatever their type.

    Raises:
        ImageError: a value is negative, above 65535 or not finite, or the type is no number.

    >>> white_level([np.array([3, 4000], np.uint16)], "a", print), white_level([np.array([0.0, 0.5])], "a", print)
    (4095, 1)
    """
    low, high, kind = 0.0, 0.0, "b"
    for part in parts:
        kind = part.dtype.kind
        if kind in "bu" and part.dtype.itemsize == 1:
            return 1 if kind == "b" else 255
        if kind not in "uif":
            raise ImageError(f"{name} has dtype {part.dtype}; expected uint8, uint16, bool, integers or floats")
        # NaN is the minimum and the maximum of what holds it.
        low, high = min(float(part.min()), low), max(float(part.max()), high)
        if not (np.isfinite(part.min()) and np.isfinite(part.max())):
            raise ImageError(f"{name} has values from {part.min()} to {part.max()}; expected finite ones")
    if low < 0 or high > _WHITE_LEVELS[-1]:
        raise ImageError(
            f"{name} has {'floats' if kind == 'f' else 'integers'} from {low:g} to {high:g}; expected 0 to 1, 255 or "
            f"at most {_WHITE_LEVELS[-1]}: scale it, to 0..255 for example"
        )
    if kind == "f" and high < _OVERSHOOT:
        if high > 1:
            warn(f"values up to {high:.4g} were taken for white, as are those of 1")
        return 1
    return next(level for level in _WHITE_LEVELS if high <= level)


def eight_bit(array: np.ndarray, white: float) -> np.ndarray:
    """Scale pixels in [0, white] to uint8, rounding to nearest; what is above is white.

    >>> eight_bit(np.array([0, 128, 129, 65535], np.uint16), 65535).tolist()
    [0, 0, 1, 255]
    >>> eight_bit(np.array([0.0, 0.5, 1.0]), 1).tolist()
    [0, 128, 255]
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind in "ui":
        level = np.uint32(white)
        return ((array.astype(np.uint32) * np.uint32(255) + level // 2) // level).astype(np.uint8)
    # Half floats would round k + 0.5 away; float32 is exact enough for 8 bits, and wider types keep theirs.
    wide = array.astype(np.float32) if array.dtype.itemsize < 4 else array
    return np.floor(np.minimum(wide * (255 / white), 255) + 0.5).astype(np.uint8)


def _on_background(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite uint8 [H, W, 1 or 3] of alpha uint8 [H, W, 1] on the background; exact where alpha is 0 or 255."""
    # Most pictures are opaque, and the arithmetic below is ten times slower than a look.
    if alpha.min() == 255:
        return colours
    weights = alpha.astype(np.uint32)
    blended = colours * weights + _BACKGROUND * (255 - weights)
    return ((blended + 127) // 255).astype(np.uint8)
