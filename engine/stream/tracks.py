"""Which track of a video is watched, and the shape that players give its pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.image.decode import upright

# Codecs of pictures: a track of one of them that does not tell its length is taken for a cover, if there is another.
_STILL_CODECS = frozenset({"mjpeg", "png", "apng", "bmp", "gif", "webp", "tiff", "jpeg2000", "jpegls", "ljpeg"})
# How FFmpeg marks pictures that belong to a file but are not its film.
_COVERS = ("attached_pic", "timed_thumbnails", "still_image")


def best_track(tracks: Any) -> Any:
    """The film among the video tracks of a container; a cover or thumbnail only if there is nothing else.

    Of several films it is the one that the file calls its default, then the one with the largest pictures, as FFmpeg
    chooses; of equals the first.
    """
    return max(tracks, key=_merit)


def _merit(track: Any) -> tuple[bool, bool, bool, int]:
    disposition, context = track.disposition, track.codec_context
    is_cover = any(disposition & getattr(type(disposition), name, 0) for name in _COVERS)
    # A codec that this build lacks has no context.
    name, area = ("", 0) if context is None else (context.name, context.width * context.height)
    moves = track.frames > 1 or (not track.frames and name not in _STILL_CODECS)
    return not is_cover and context is not None, moves, bool(disposition & type(disposition).default), area


def orientation_of(matrix: np.ndarray) -> int:
    """The EXIF orientation, 1 to 8, that turns and mirrors pictures as a display matrix does.

    Args:
        matrix: int32 [9], of a frame's side data or of MP4's track header: a stored pixel (x, y) is shown at
            (m0 x + m3 y, m1 x + m4 y), up to a shift and a scale.

    A turn that is none of the eight is rounded to the nearest; a matrix of zeros turns nothing.

    >>> orientation_of(np.array([-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30]))
    2
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    flips = [(False, False), (False, True), (True, True), (True, False)]  # Rows and columns, as EXIF numbers them.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return 1 + flips.index((d < 0, a < 0))
    return 5 + flips.index((b < 0, c < 0))


def shown_size(width: int, height: int, pixel_shape: Any) -> tuple[int, int]:
    """(width, height) of a stored picture once its pixels are square; one side grows, none shrinks.

    Args:
        pixel_shape: a pixel's width over its height, as a fraction; None or 0 if it is not known.

    >>> from fractions import Fraction
    >>> shown_size(720, 576, Fraction(16, 15)), shown_size(640, 240, Fraction(1, 2)), shown_size(64, 48, None)
    ((768, 576), (640, 480), (64, 48))
    """
    if not pixel_shape or pixel_shape <= 0:
        return width, height
    if pixel_shape > 1:
        return round(width * pixel_shape), height
    return width, round(height / pixel_shape)


def shown_pixels(frame: Any, pixel_shape: Any, check: Callable[[int, int], None]) -> np.ndarray:
    """A decoded frame as players show it: uint8 [H, W, 3] RGB with square pixels, turned upright.

    Args:
        frame: of PyAV.
        pixel_shape: as in :func:`shown_size`.
        check: raises for a size (width, height) that is too large.
    """
    width, height = shown_size(frame.width, frame.height, pixel_shape)
    check(width, height)
    if (width, height) == (frame.width, frame.height):
        pixels = frame.to_ndarray(format="rgb24")
    else:
        pixels = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
    from av.sidedata.sidedata import SideDataContainer

    # Not frame.side_data: the frame would keep that and be kept by it, until Python looks for such circles. They seem
    # small to it, but a frame of 4K holds 12 MB, and dozens of them waited.
    matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]
    return upright(pixels, 1 if matrix is None else orientation_of(np.frombuffer(bytes(matrix), np.int32)))
