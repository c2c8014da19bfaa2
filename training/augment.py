"""Random training crops: scale, position, flip, colour, and two pictures joined in one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.head_map import head_map
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
        aspect: smallest and largest ratio of the horizontal to the vertical zoom, drawn log-uniformly.
        contrast, gamma, channel_gain: smallest and largest factor.
        brightness: largest shift of pixels in [0, 1].
        grey: probability of a grey picture.
        negatives: probability that a crop is a synthetic picture without people.
        joined: probability that a crop is made of two, side by side or one above the other (CutMix with whole
            edges: Yun et al. 2019), so that a place cannot be told by its surroundings. With 0.3 and stronger colours
            the counts of whole pictures were far too high (docs/model_card.md), so it is off.
    """

    scale: tuple[float, float] = (0.6, 1.7)
    overhang: float = 0.75
    aspect: tuple[float, float] = (0.9, 1.11)
    contrast: tuple[float, float] = (0.7, 1.3)
    gamma: tuple[float, float] = (0.8, 1.25)
    channel_gain: tuple[float, float] = (0.92, 1.08)
    brightness: float = 0.15
    grey: float = 0.1
    negatives: float = 0.05
    joined: float = 0.0


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
    crop, points = _cut(image, points, size, config, rng)
    pixels = np.zeros((size, size, 3), np.float32)
    pixels[: crop.shape[0], : crop.shape[1]] = _recolour(crop, model, config, rng)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        # The last pixel's mirror image is the first: x -> S - 1 - x for centres, just under S - x for points.
        points = np.stack([np.nextafter(np.float32(size), np.float32(0)) - points[:, 0], points[:, 1]], axis=1)
    cells, blocks = size // model.map_stride, size // COUNT_STRIDE
    return (
        np.ascontiguousarray(pixels.transpose(2, 0, 1)),
        head_map(points, cells, cells, model.map_stride),
        block_counts(points, blocks, blocks, COUNT_STRIDE),
    )


def join_crops(
    first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...], rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """One crop with its targets, the left or upper part from ``first``, the rest from ``second``.

    The border lies between two blocks, somewhere in the middle half, so that every array is cut exactly.
    """
    blocks, across = first[-1].shape[0], bool(rng.random() < 0.5)
    border = int(rng.integers(blocks // 4, blocks - blocks // 4 + 1))
    joined = []
    for one, other in zip(first, second, strict=True):
        axis, cut = one.ndim - 1 if across else one.ndim - 2, border * one.shape[-1] // blocks
        joined.append(np.concatenate([np.split(one, [cut], axis)[0], np.split(other, [cut], axis)[1]], axis))
    return tuple(joined)


def _cut(
    image: np.ndarray, points: np.ndarray, size: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    zoom, stretch = np.exp(rng.uniform(*np.log(config.scale))), np.exp(rng.uniform(*np.log(config.aspect)) / 2)
    scale = np.array([zoom * stretch, zoom / stretch])
    reach = size / scale
    left, top = _start(width, reach[0], config, rng), _start(height, reach[1], config, rng)
    right, bottom = min(left + reach[0], width), min(top + reach[1], height)
    target = max(round((right - left) * scale[0]), 1), max(round((bottom - top) * scale[1]), 1)
    # Only the pixels under the crop are handed to Pillow; its box is relative to them.
    x, y = int(left), int(top)
    region = Image.fromarray(image[y : int(np.ceil(bottom)), x : int(np.ceil(right))])
    box = (left - x, top - y, min(right - x, region.width), min(bottom - y, region.height))
    crop = np.asarray(region.resize((min(target[0], size), min(target[1], size)), Image.Resampling.BILINEAR, box=box))
    inside = (points >= [left, top]).all(axis=1) & (points < [right, bottom]).all(axis=1)
    return crop, ((points[inside] - [left, top]) * scale).astype(np.float32)


def _start(length: int, part: float, config: AugmentConfig, rng: np.random.Generator) -> float:
    """Where a crop begins that takes ``part`` of ``length`` pixels."""
    room, beyond = max(length - part, 0), config.overhang * part
    return float(np.clip(rng.uniform(-beyond, room + beyond), 0, room))


def _recolour(crop: np.ndarray, model: ModelConfig, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < config.grey:
        crop = np.repeat(crop.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    levels = np.arange(256, dtype=np.float32) / 255
    levels = (levels - 0.5) * rng.uniform(*config.contrast) + 0.5
    levels = np.clip(levels + rng.uniform(-config.brightness, config.brightness), 0, 1) ** rng.uniform(*config.gamma)
    gains = rng.uniform(*config.channel_gain, 3).astype(np.float32)
    # One table per channel does contrast, brightness, gamma, gain and normalisation in one look-up.
    tables = ((levels[:, None] * gains - model.pixel_mean) / model.pixel_std).astype(np.float32)
    return np.stack([tables[:, c][crop[..., c]] for c in range(3)], axis=2)
