"""Which number is white, where the type of the pixels does not say it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from engine.errors import ImageError

Warn = Callable[[str], None]

# Largest values of 8, 10, 12, 14 and 16 bits; files of 16 bits often hold what a sensor gave in fewer.
_WHITE_LEVELS = (255, 1023, 4095, 16383, 65535)
# Floats that go beyond 1 by less than this factor have been resampled, say; from it on they count in levels.
_OVERSHOOT = 2.0


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
