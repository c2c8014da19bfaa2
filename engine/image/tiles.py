"""Picture -> normalised, padded network input, in tiles when it is very large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from engine.config import PADDING, ModelConfig

# Pictures up to this many pixels run in one piece; activations take about 250 bytes a pixel.
MAX_WHOLE_PIXELS = 2048 * 2048
# Side of the tiles of larger ones, which need memory for themselves as well.
TILE_SIDE = 1536
# Context that a tile sees beyond the pixels it owns.
TILE_HALO = 128


@dataclass(frozen=True)
class Tile:
    """A part of a picture: what is read, and the part of it whose cells are kept.

    All numbers are pixels of the picture; tops and lefts are multiples of 32.
    """

    top: int
    left: int
    bottom: int
    right: int
    core_top: int
    core_left: int
    core_bottom: int
    core_right: int

    @classmethod
    def whole(cls, height: int, width: int) -> Tile:
        """The whole of a picture."""
        return cls(0, 0, height, width, 0, 0, height, width)


class Picture(Protocol):
    """A picture that a backend has loaded, wherever its pixels lie."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and 3."""

    @property
    def pixels(self) -> np.ndarray | None:
        """The pixels, uint8 [H, W, 3] RGB, where they lie on the host."""

    def crop(self, tile: Tile) -> Any:
        """The part that a tile sees, as the backend takes it; nothing is copied."""

    def close(self) -> None:
        """Give the memory back to its owner, once the work that reads it is done."""


@dataclass(frozen=True)
class HostPicture:
    """A :class:`Picture` in host memory: uint8 [H, W, 3], RGB."""

    pixels: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and 3."""
        height, width = self.pixels.shape[:2]
        return height, width, 3

    def crop(self, tile: Tile) -> np.ndarray:
        """A view of the part that a tile sees."""
        return self.pixels[tile.top : tile.bottom, tile.left : tile.right]

    def close(self) -> None:
        """The memory goes with the last who refers to it."""


def plan_tiles(
    height: int, width: int, max_pixels: int = MAX_WHOLE_PIXELS, side: int = TILE_SIDE, halo: int = TILE_HALO
) -> tuple[Tile, ...]:
    """Tiles of at most about ``side`` whose cores cover a picture once; one tile for up to ``max_pixels``, padded.

    >>> len(plan_tiles(768, 1024)), len(plan_tiles(9000, 12000))
    (1, 80)
    """
    # The network sees 32 rows of a picture that is one pixel high.
    if math.prod(padded_shape(height, width)[2:]) <= max_pixels:
        return (Tile.whole(height, width),)
    tiles = []
    for core_top, core_bottom in _cuts(height, side - 2 * halo):
        for core_left, core_right in _cuts(width, side - 2 * halo):
            top, left = max(core_top - halo, 0), max(core_left - halo, 0)
            bottom, right = min(core_bottom + halo, height), min(core_right + halo, width)
            tiles.append(Tile(top, left, bottom, right, core_top, core_left, core_bottom, core_right))
    return tuple(tiles)


def _cuts(length: int, side: int) -> list[tuple[int, int]]:
    # Equal parts, so that the last one is not a sliver; starts on multiples of the padding.
    parts = math.ceil(length / side)
    starts = [round(i * length / parts / PADDING) * PADDING for i in range(parts)]
    return list(zip(starts, [*starts[1:], length], strict=True))


def padded_shape(height: int, width: int) -> tuple[int, int, int, int]:
    """Shape of the network's input for a picture, [1, 3, H', W'].

    >>> padded_shape(768, 1001)
    (1, 3, 768, 1024)
    """
    return 1, 3, height + -height % PADDING, width + -width % PADDING


def input_table(model: ModelConfig) -> np.ndarray:
    """What each value of a pixel becomes in the network's input: float32 [256]."""
    return to_input(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3), model)[0, 0, 0].copy()


def to_input(image: np.ndarray, model: ModelConfig) -> np.ndarray:
    """Normalise and zero-pad a picture on the right and below.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        float32 [1, 3, H', W'], H' and W' the next multiples of 32. Zero is the mean pixel.
    """
    height, width = image.shape[:2]
    padded = np.zeros(padded_shape(height, width), np.float32)
    inside = padded[0, :, :height, :width]
    np.multiply(image.transpose(2, 0, 1), np.float32(1 / (255 * model.pixel_std)), out=inside)
    inside -= np.float32(model.pixel_mean / model.pixel_std)
    return padded
