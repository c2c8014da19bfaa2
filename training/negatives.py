"""Synthetic pictures without people: what is not in crowd data sets, and must not be counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Pattern = Callable[[int, np.random.Generator], np.ndarray]


def empty_picture(size: int, rng: np.random.Generator, discs: bool = False) -> np.ndarray:
    """A random blank, noise, sky or texture picture, with ``discs`` sometimes of coins: uint8 [size, size, 3]."""
    patterns: tuple[Pattern, ...] = (*_PATTERNS, _discs, _discs) if discs else _PATTERNS
    pattern = patterns[rng.integers(len(patterns))](size, rng)  # [size, size, 1 or 3] in 0 .. 1
    low, high = np.sort(rng.random((2, 3)), axis=0)
    if rng.random() < 0.3:
        low, high = np.zeros(3), np.ones(3)
    picture = (low + pattern * (high - low)) * 255
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(2, 25), (size, size, 3))
    return np.clip(picture, 0, 255).astype(np.uint8)


def _blank(size: int, rng: np.random.Generator) -> np.ndarray:
    return np.full((size, size, 1), rng.random())


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """White noise at a random grain, smooth or in blocks."""
    grain = int(2 ** rng.uniform(0, 6))
    small = rng.random((-(-size // grain) + 1, -(-size // grain) + 1, 3 if rng.random() < 0.5 else 1))
    if rng.random() < 0.5:
        return np.kron(small, np.ones((grain, grain, 1)))[:size, :size]
    return _enlarge(small, size)


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of all grains together, coarse ones strongest: clouds, stone, foliage."""
    total, falloff = np.zeros((size, size, 1)), rng.uniform(0.4, 1.1)
    for octave in range(1, 8):
        total += falloff**octave * _enlarge(rng.random((2**octave + 1, 2**octave + 1, 1)), size)
    return (total - total.min()) / np.ptp(total)


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size] / size
    ramp = np.cos(angle) * x + np.sin(angle) * y
    return ((ramp - ramp.min()) / np.ptp(ramp))[..., None] ** rng.uniform(0.5, 2)


def _stripes(size: int, rng: np.random.Generator) -> np.ndarray:
    across, _ = _phases(size, rng)
    return _edged(np.sin(across), rng)


def _checks(size: int, rng: np.random.Generator) -> np.ndarray:
    """A chess board or a lattice of dots, turned and stretched."""
    across, along = np.sin(_phases(size, rng))
    return _edged(across * along if rng.random() < 0.5 else np.minimum(across, along), rng)


def _phases(size: int, rng: np.random.Generator) -> np.ndarray:
    """Phases of two waves at right angles, of a random direction: [2, size, size] in radians."""
    y, x = np.mgrid[:size, :size].astype(np.float64)
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(3), np.log(80)))
    across = (np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period
    along = (np.cos(angle) * y - np.sin(angle) * x) * 2 * np.pi / period * rng.uniform(0.5, 2)
    return np.stack([across, along])


def _edged(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wave of -1 .. 1 with soft or hard edges: [size, size, 1] in 0 .. 1."""
    sharpness = np.exp(rng.uniform(0, 3))
    return 0.5 + 0.5 * np.tanh(sharpness * wave)[..., None]


def _bricks(size: int, rng: np.random.Generator) -> np.ndarray:
    """Courses of bricks, each with a shade of its own."""
    height, width, joint = rng.integers(6, 40), rng.integers(10, 90), rng.integers(1, 5)
    y, x = np.mgrid[:size, :size]
    course = y // height
    shifted = x + (course % 2) * (width // 2)
    shades = rng.random((size // height + 2, 2 * size // width + 3))
    wall = 0.4 + 0.6 * shades[course, shifted // width]
    wall[(y % height < joint) | (shifted % width < joint)] = 0
    return wall[..., None]


def _discs(size: int, rng: np.random.Generator) -> np.ndarray:
    """Coins, beads or lamps: discs of about one size, in rows or anywhere, with soft or hard edges."""
    radius = np.exp(rng.uniform(np.log(2), np.log(40)))
    gap = radius * rng.uniform(2.2, 5)
    steps = np.arange(gap / 2, size, gap)
    places = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    places = places + rng.normal(0, gap * rng.choice([0, 0.1, 0.3]), places.shape)
    places = places[rng.random(len(places)) < rng.uniform(0.3, 1.0)]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    picture = np.zeros((size, size), np.float32)
    softness = max(radius * rng.uniform(0.05, 0.6), 0.7)
    for left, top in places:
        # Only the pixels around a disc are drawn.
        reach = int(radius + 4 * softness) + 1
        rows, columns = (slice(max(int(v) - reach, 0), int(v) + reach + 1) for v in (top, left))
        distance = np.hypot(x[rows, columns] - left, y[rows, columns] - top)
        disc = rng.uniform(0.4, 1) / (1 + np.exp(np.clip((distance - radius) / softness, -30, 30)))
        picture[rows, columns] = np.maximum(picture[rows, columns], disc)
    return picture[..., None]


def _enlarge(small: np.ndarray, size: int) -> np.ndarray:
    channels = [
        np.asarray(Image.fromarray(small[..., c].astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))
        for c in range(small.shape[2])
    ]
    return np.clip(np.stack(channels, axis=2), 0, 1)


# Checks, which look most like rows of heads, more often than the others.
_PATTERNS: tuple[Pattern, ...] = (
    _blank,
    _noise,
    _noise,
    _clouds,
    _gradient,
    _stripes,
    _checks,
    _checks,
    _checks,
    _bricks,
)
