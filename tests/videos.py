"""Tiny videos made on the spot."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def numbered(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that tells its number, 0 to 255, in the brightness of its left half; the right half is black."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2] = index
    return picture


def number_of(picture: np.ndarray) -> int:
    """The number that :func:`numbered` drew; lossy codecs shift it by less than half of eight."""
    return round(float(picture[4:-4, 4 : picture.shape[1] // 2 - 4].mean()))


def write_video(
    path: Path, pictures: list[np.ndarray], rate: int = 10, codec: str = "mpeg4", pixels: str = "yuv420p", turn: int = 0
) -> Path:
    """Encode uint8 [H, W, 3] pictures; ``turn`` is how far players shall rotate them, in degrees."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=rate)
        track.width, track.height, track.pix_fmt = width, height, pixels
        if turn:
            track.set_display_rotation(turn)
        for picture in pictures:
            for packet in track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in track.encode():
            container.mux(packet)
    return path
