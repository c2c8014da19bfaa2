"""Head map -> points, count, density, uncertainty and interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.config import CountingRule
from engine.errors import ConfigError

FindPeaks = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]
Polygon = Sequence[tuple[float, float]]

# People added to both sides of a ratio of true to counted.
RATIO_OFFSET = 5
# Peaks below the rule's lowest threshold by up to this factor are candidates for the interval alone.
_CANDIDATE_FACTOR = 0.5
# Splat of the density map: a Gaussian of sigma = 1.5 cells, cut at 4 cells.
_SPLAT_RADIUS = 4
_SPLAT_SIGMA = 1.5


@dataclass(frozen=True)
class HeadMaps:
    """What the network says of one picture.

    Attributes:
        heatmap: float32 [h, w] in [0, 1].
        spread: float32 [h, w], how far the heat map moved between steps or differs between samples.
        expected: the encoder's own estimate of the number of heads.
        has_spread: false if there was but one step of one sample, so that ``spread`` says nothing.
    """

    heatmap: np.ndarray
    spread: np.ndarray
    expected: float
    has_spread: bool


@dataclass(frozen=True)
class Counted:
    """Heads found: points float32 [N, 2] (x, y) in cells, scores float32 [N], and the count's interval."""

    points: np.ndarray
    scores: np.ndarray
    interval: tuple[int, int]


def count_heads(maps: HeadMaps, rule: CountingRule, find_peaks: FindPeaks) -> Counted:
    """Pick the peaks of the heat map that are heads.

    Peaks above ``rule.high`` always count, those below ``rule.low`` never; between the two, the
    strongest count until there are as many as the encoder expects.

    The interval holds two ranges. One is this picture's own: the peaks that would pass the threshold so
    chosen if every peak were lower, or higher, by its spread; without any spread, the peaks above
    ``rule.high`` and those above ``rule.low``. The other is the model's calibrated error: the count times
    ``rule.least`` and ``rule.most`` (split conformal prediction on the ratio of true to counted people).
    """
    points, scores = find_peaks(maps.heatmap, candidate_threshold(rule))
    possible, certain = int((scores >= rule.low).sum()), int((scores >= rule.high).sum())
    count = int(np.clip(round(maps.expected), certain, possible))
    # A stable sort keeps raster order among equals, so the choice is the same on every run.
    strongest = np.argsort(-scores, kind="stable")[:count]
    kept = np.sort(strongest)
    if maps.has_spread:
        threshold = scores[strongest[-1]] if count else np.float32(rule.high)
        column, row = np.floor(points).astype(np.int64).T if len(points) else np.zeros((2, 0), np.int64)
        spread = maps.spread[row, column]
        certain, possible = int((scores - spread >= threshold).sum()), int((scores + spread >= threshold).sum())
    low, high = (scale_count(count, ratio) for ratio in (rule.least, rule.most))
    interval = min(certain, count, math.floor(low)), max(possible, count, math.ceil(high))
    return Counted(points[kept], scores[kept], interval)


def candidate_threshold(rule: CountingRule) -> float:
    """Height from which on :func:`count_heads` asks for peaks."""
    return rule.low * _CANDIDATE_FACTOR


def scale_count(count: int, ratio: float) -> float:
    """The true count if ``(true + 5) / (count + 5)`` is ``ratio``, not below 0.

    The 5 keeps the ratio tame for pictures of a few people.

    >>> scale_count(95, 1.2), scale_count(0, 0.5)
    (115.0, 0.0)
    """
    return max((count + RATIO_OFFSET) * ratio - RATIO_OFFSET, 0.0)


def density_map(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Density of heads: float32 [height, width] that sums to the number of points.

    Args:
        points: float32 [N, 2], (x, y) in cells, inside the map.

    Each head adds a Gaussian of sigma = 1.5 cells, cut at the borders and scaled back to sum 1.
    """
    density = np.zeros((height, width), np.float32)
    if not len(points):
        return density
    reach = np.arange(-_SPLAT_RADIUS, _SPLAT_RADIUS + 1)
    axes = []
    for axis, length in ((1, height), (0, width)):
        cells = np.floor(points[:, axis]).astype(np.int64)[:, None] + reach  # [N, 9]
        weights = np.exp(-((cells + 0.5 - points[:, axis, None]) ** 2) / (2 * _SPLAT_SIGMA**2))
        weights[(cells < 0) | (cells >= length)] = 0
        axes.append((np.clip(cells, 0, length - 1), weights / weights.sum(axis=1, keepdims=True)))
    (rows, row_weights), (columns, column_weights) = axes
    splats = (row_weights[:, :, None] * column_weights[:, None, :]).astype(np.float32)
    np.add.at(density, (rows[:, :, None], columns[:, None, :]), splats)
    return density


def count_zones(points: np.ndarray, zones: Mapping[str, Polygon] | None) -> dict[str, int]:
    """Points inside each polygon, by the even-odd rule.

    Args:
        points: float32 [N, 2], (x, y) in pixels.
        zones: polygon of at least three (x, y) corners, in pixels, by name.

    A point on an edge that two polygons share belongs to one of them (the half-open rule).

    >>> count_zones(np.array([[5, 5], [15, 5]], np.float32), {"left": [(0, 0), (10, 0), (10, 10), (0, 10)]})
    {'left': 1}
    """
    counts = {}
    for name, polygon in (zones or {}).items():
        corners = np.asarray(polygon, np.float64)
        if corners.ndim != 2 or corners.shape[0] < 3 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise ConfigError(f"zone {name!r} must be at least three finite (x, y) corners in pixels, got {polygon!r}")
        counts[name] = int(_inside(points.astype(np.float64), corners).sum())
    return counts


def _inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    x, y = points[:, :1], points[:, 1:]
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    crosses = (y0 <= y) != (y1 <= y)  # [N, edges]
    with np.errstate(divide="ignore", invalid="ignore"):
        at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return (crosses & (x < at)).sum(axis=1) % 2 == 1
