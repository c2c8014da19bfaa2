"""Random training crops: scale, position, flip and colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.config import FEATURE_STRIDE, PADDING, ModelConfig
from engine.diffusion.head_map import head_map
from engine.training.checks import check_finite, check_not_negative, check_ranges, check_shares
from engine.training.targets import block_counts

# Blocks of the count target: two cells of the condition map.
COUNT_STRIDE = 2 * FEATURE_STRIDE


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random changes.

    Attributes:
        scale: smallest and largest zoom, drawn log-uniformly.
        overhang: how far beyond the picture a crop may be drawn, as a share of its size, before it is moved back
            inside. At 0.75 the pixels at a border are in as many crops as those in the middle; at 0 in few, and
            counts of far crowds, which often touch the upper border, come out low.
        focus: probability that a crop is laid around a random head instead of anywhere. Most of a street is empty,
            and its heads crowd together far away: anywhere, three crops in four hold few.
        native: probability that a crop is cut out pixel by pixel, without zoom. Any other crop is resampled, and so a
            little less sharp than the whole pictures that are counted later: trained on such crops alone, a network
            takes the finest texture of a dense crowd for more people than there are.
        aspect: smallest and largest ratio of the horizontal to the vertical zoom, drawn log-uniformly.
        contrast, gamma, channel_gain: smallest and largest factor.
        brightness: largest shift of pixels in [0, 1].
        grey: probability of a grey picture.
        negatives: probability that a crop is a picture without people: a synthetic one or, where some were given, as
            often a real one.
        text: probability that text lies over a crop; five times as much, at most 1/2, for one without people.
        padding: probability that a crop leaves up to 31 columns and rows empty on the right and below, as whole
            pictures do, which are padded to a multiple of 32. A network that sees such strips beside empty pictures
            alone takes them for a sign that nobody is there.
    """

    scale: tuple[float, float] = (0.6, 1.7)
    overhang: float = 0.75
    focus: float = 0.5
    native: float = 0.5
    aspect: tuple[float, float] = (0.9, 1.11)
    contrast: tuple[float, float] = (0.7, 1.3)
    gamma: tuple[float, float] = (0.8, 1.25)
    channel_gain: tuple[float, float] = (0.92, 1.08)
    brightness: float = 0.15
    grey: float = 0.1
    negatives: float = 0.05
    text: float = 0.0
    padding: float = 0.25

    def __post_init__(self) -> None:
        check_finite(self)
        # Smaller zooms take pictures that no memory holds.
        check_ranges(self, 0.1, 10, "scale", "aspect", "gamma")
        check_ranges(self, 0, 100, "contrast", "channel_gain")
        check_shares(self, "focus", "native", "brightness", "grey", "negatives", "text", "padding")
        check_not_negative(self, "overhang")

    def empty_size(self, size: int) -> int:
        """Pixels per side of a synthetic picture that a crop of ``size`` pixels always fits into."""
        least = self.scale[0] * min(self.aspect[0], 1 / self.aspect[1]) ** 0.5
        return math.ceil(size / min(least, 1.0))


@dataclass(frozen=True)
class Crop:
    """What is done to one picture.

    Attributes:
        left, top, right, bottom: the part taken, in pixels of the picture; not whole ones.
        width, height: of that part in the crop, which is filled up with zeros on the right and below.
        scale: horizontal and vertical zoom.
        grey, contrast, brightness, gamma, gains: changes of colour, in this order.
        mirrored: left and right are exchanged, the zeros included.
        picture: width and height of the whole picture.
    """

    left: float
    top: float
    right: float
    bottom: float
    width: int
    height: int
    scale: tuple[float, float]
    grey: bool
    contrast: float
    brightness: float
    gamma: float
    gains: tuple[float, ...]
    mirrored: bool
    picture: tuple[int, int]

    def place(self, points: np.ndarray, size: int) -> np.ndarray:
        """Those of ``points`` [N, 2] that lie in the crop, float32, in its pixels.

        A head on the picture's border, or just beyond it, counts as one of the pixel beside it.
        """
        points = np.clip(points, 0, np.nextafter(np.array(self.picture, np.float32), np.float32(0)))
        inside = ((points >= [self.left, self.top]) & (points < [self.right, self.bottom])).all(axis=1)
        placed = ((points[inside] - [self.left, self.top]) * self.scale).astype(np.float32)
        if self.mirrored:
            # The last pixel's mirror image is the first: x -> S - 1 - x for centres, just under S - x for points.
            placed[:, 0] = np.nextafter(np.float32(size), np.float32(0)) - placed[:, 0]
        return placed

    def colours(self, model: ModelConfig) -> np.ndarray:
        """The network's input for every level of every channel: float32 [3, 256].

        One table per channel does contrast, brightness, gamma, gain and normalisation in one look-up.
        """
        levels = np.arange(256, dtype=np.float32) / 255
        levels = (levels - 0.5) * self.contrast + 0.5
        levels = np.clip(levels + self.brightness, 0, 1) ** self.gamma
        gains = np.array(self.gains, np.float32)[:, None]
        return ((levels * gains - model.pixel_mean) / model.pixel_std).astype(np.float32)


def draw_crop(
    height: int, width: int, points: np.ndarray, size: int, config: AugmentConfig, rng: np.random.Generator
) -> Crop:
    """A random crop of ``size`` x ``size`` pixels from a picture of ``height`` x ``width`` with heads at ``points``."""
    native = bool(config.native) and rng.random() < config.native
    zoom, stretch = np.exp(rng.uniform(*np.log(config.scale))), np.exp(rng.uniform(*np.log(config.aspect)) / 2)
    scale = (1.0, 1.0) if native else (zoom * stretch, zoom / stretch)
    x, y = points[rng.integers(len(points))] if len(points) and rng.random() < config.focus else (None, None)
    is_padded = bool(config.padding) and rng.random() < config.padding
    across, down = size - rng.integers(PADDING, size=2) if is_padded else (size, size)
    left, top = _start(width, across / scale[0], x, config, rng), _start(height, down / scale[1], y, config, rng)
    if native:
        left, top = float(math.floor(left)), float(math.floor(top))
    right, bottom = min(left + across / scale[0], width), min(top + down / scale[1], height)
    return Crop(
        left,
        top,
        right,
        bottom,
        width=min(max(round((right - left) * scale[0]), 1), across),
        height=min(max(round((bottom - top) * scale[1]), 1), down),
        scale=scale,
        grey=bool(rng.random() < config.grey),
        contrast=rng.uniform(*config.contrast),
        brightness=rng.uniform(-config.brightness, config.brightness),
        gamma=rng.uniform(*config.gamma),
        gains=tuple(rng.uniform(*config.channel_gain, 3)),
        mirrored=bool(rng.random() < 0.5),
        picture=(width, height),
    )


def _start(length: int, part: float, head: float | None, config: AugmentConfig, rng: np.random.Generator) -> float:
    """Where a crop begins that takes ``part`` of ``length`` pixels, the one of ``head`` among them if it is given."""
    room, beyond = max(length - part, 0), config.overhang * part
    start = rng.uniform(-beyond, room + beyond) if head is None else head - rng.uniform(0, part)
    return min(max(start, 0), room)


def random_crop(
    image: np.ndarray, points: np.ndarray, model: ModelConfig, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One random crop with its targets.

    Args:
        image: uint8 [H, W, 3].
        points: float32 [N, 2], (x, y) in pixels of ``image``.

    Returns:
        pixels float32 [3, S, S], normalised, zero where the crop reaches past the picture; head map
        float32 [S/2, S/2]; head counts float32 [S/16, S/16].
    """
    size = model.crop_size
    height, width = image.shape[:2]
    crop = draw_crop(height, width, points, size, config, rng)
    pixels = np.zeros((3, size, size), np.float32)
    cut, colours = _cut(image, crop), crop.colours(model)
    for channel in range(3):
        pixels[channel, : crop.height, : crop.width] = colours[channel][cut[..., channel]]
    if crop.mirrored:
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    placed = crop.place(points, size)
    cells, blocks = size // model.map_stride, size // COUNT_STRIDE
    return (
        pixels,
        head_map(placed, cells, cells, model.map_stride),
        block_counts(placed, blocks, blocks, COUNT_STRIDE),
    )


def _cut(image: np.ndarray, crop: Crop) -> np.ndarray:
    """The picture's part, resized, perhaps in grey: uint8 [height, width, 3]."""
    # Only the pixels under the crop are handed to Pillow; its box is relative to them.
    x, y = int(crop.left), int(crop.top)
    region = Image.fromarray(image[y : math.ceil(crop.bottom), x : math.ceil(crop.right)])
    box = crop.left - x, crop.top - y, min(crop.right - x, region.width), min(crop.bottom - y, region.height)
    cut = np.asarray(region.resize((crop.width, crop.height), Image.Resampling.BILINEAR, box=box))
    return np.repeat(cut.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2) if crop.grey else cut
