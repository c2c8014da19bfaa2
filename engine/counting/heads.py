"""Head map -> points, count, density, uncertainty and interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from engine.config import COMPONENTS, RATIO_OFFSET, CountingRule, scale_count
from engine.counting.crowds import find_merged
from engine.errors import NotFiniteError

FindPeaks = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]

# Peaks below the rule's lowest threshold by up to this factor are candidates for the interval alone.
_CANDIDATE_FACTOR = 0.5
# Cells of the map for each head, at least: as peaks need.
_CELLS_OF_A_HEAD = 4
# Limits that no picture comes near: logarithm of people, scale of errors (usually below 1), people.
_MOST_LOGARITHM, _MOST_SCALE, _MOST_PEOPLE = 50.0, 5.0, 1e15
# Splat of the density map: a Gaussian of sigma = 1.5 cells, cut at 4 cells.
_SPLAT_RADIUS = 4
_SPLAT_SIGMA = 1.5


@dataclass(frozen=True)
class HeadMaps:
    """What the network says of one picture.

    Attributes:
        heatmap: float32 [h, w] in [0, 1].
        spread: float32 [h, w], how far the heat map moved between steps or differs between samples.
        rate: float32 [ceil(h / cells), ceil(w / cells)], heads that the encoder expects in each block of the map.
        cells: side of such a block.
        expected: the encoder's own estimate of the number of heads.
        has_spread: false if there was but one step of one sample, so that ``spread`` says nothing.
        distance: from the pictures that the model was trained on; see :func:`distance`.
    """

    heatmap: np.ndarray
    spread: np.ndarray
    rate: np.ndarray
    cells: int
    expected: float
    has_spread: bool
    distance: float = 0.0


@dataclass(frozen=True)
class Counted:
    """Heads found.

    Attributes:
        points: float32 [N, 2], (x, y) in cells.
        scores: float32 [N].
        interval: of the count.
        in_distribution: whether picture and map look as they do in pictures like those of the calibration.
    """

    points: np.ndarray
    scores: np.ndarray
    interval: tuple[int, int]
    in_distribution: bool


def count_heads(maps: HeadMaps, rule: CountingRule, find_peaks: FindPeaks) -> Counted:
    """Pick the peaks of the heat map that are heads.

    Peaks above ``rule.high`` always count, those below ``rule.low`` never; between the two, the
    strongest count until there are as many as are expected (:func:`expected_count`). Where those are too few and
    ``rule.beyond_peaks`` says so, weaker peaks count as well, and what is still missing is put where the encoder
    expects it (:func:`engine.counting.crowds.find_merged`). Where no peak reaches ``rule.gate``, nobody is counted.

    The interval holds two ranges. One is this picture's own: the peaks that would pass the threshold so
    chosen if every peak were lower, or higher, by its spread; without any spread, the peaks above
    ``rule.high`` and those above ``rule.low``. The other is the model's calibrated error: the count times
    ``rule.least`` and ``rule.most``, each to the power of :func:`error_scale` (conformal prediction, normalised, on the
    ratio of true to counted people; Papadopoulos et al., 2002).

    Raises:
        NotFiniteError: the maps have numbers that are not finite.
    """
    if not math.isfinite(maps.expected + maps.distance + float(maps.heatmap.sum())):
        raise NotFiniteError(
            "the network gave numbers that are not finite: its weights are damaged or diverged in training, or their "
            "numbers are too large for this compute type; use another model, or compute_type='float32'"
        )
    points, scores = find_peaks(maps.heatmap, candidate_threshold(rule))
    # Whatever a bundle from a stranger expects, there is room for so many.
    count = min(count_ungated(scores, maps.expected, rule), max(len(scores), maps.heatmap.size // _CELLS_OF_A_HEAD))
    is_clear = not count or (
        maps.distance <= rule.most_distance
        and haze(maps.heatmap) <= rule.most_haze
        and weak_ratio(scores, rule, count) <= rule.most_weak
    )
    if scores.max(initial=0) < rule.gate:
        count = 0
    # A stable sort keeps raster order among equals, so the choice is the same on every run.
    strongest = np.argsort(-scores, kind="stable")[:count]
    kept = np.sort(strongest)
    possible, certain = int((scores >= rule.low).sum()), int((scores >= rule.high).sum())
    if maps.has_spread:
        threshold = scores[strongest[-1]] if len(strongest) else np.float32(rule.high)
        column, row = np.floor(points).astype(np.int64).T if len(points) else np.zeros((2, 0), np.int64)
        spread = maps.spread[row, column]
        certain, possible = int((scores - spread >= threshold).sum()), int((scores + spread >= threshold).sum())
    scale = error_scale(count, maps.distance, rule)
    low, high = (scale_count(count, ratio**scale) for ratio in (rule.least, rule.most))
    interval = min(certain, count, math.floor(low)), max(possible, count, math.ceil(min(high, _MOST_PEOPLE)))
    points, scores = points[kept], scores[kept]
    if count > len(points):
        more = find_merged(maps.heatmap, maps.rate, maps.cells, points, count - len(points))
        points, scores = np.concatenate([points, more[0]]), np.concatenate([scores, more[1]])
    return Counted(points, scores, interval, in_distribution=is_clear)


def count_ungated(scores: np.ndarray, expected: float, rule: CountingRule) -> int:
    """Heads that ``rule`` counts where a peak reaches its gate; see :func:`count_heads`.

    Args:
        scores: of the peaks, [N].
        expected: by the encoder.
    """
    count = max(round(expected_count(expected, rule)), int((scores >= rule.high).sum()))
    return count if rule.beyond_peaks else min(count, int((scores >= rule.low).sum()))


def expected_count(rate: float, rule: CountingRule) -> float:
    """People to expect where the encoder expects ``rate`` heads.

    >>> round(expected_count(95, CountingRule(0.3, 0.7, offset=-0.1)))
    85
    """
    # A bundle from a stranger may expect less than nobody, or more than any number.
    return math.exp(min(rule.offset + math.log(max(rate, 0) + RATIO_OFFSET), _MOST_LOGARITHM)) - RATIO_OFFSET


def error_scale(count: int, distance: float, rule: CountingRule) -> float:
    """How large the error of a count is, as a multiple of that which ``rule.least`` and ``rule.most`` are for.

    Args:
        distance: of the picture; see :func:`distance`.
    """
    known = max(count, rule.fewest) + RATIO_OFFSET
    logarithm = rule.scale + rule.scale_by_count * math.log(known) + rule.scale_by_distance * math.log(distance or 1.0)
    # Below the fewest people of the calibration, as the standard deviation of a Poisson number grows against it.
    scale = math.exp(min(logarithm, _MOST_LOGARITHM)) * math.sqrt(known / (count + RATIO_OFFSET))
    return min(scale, _MOST_SCALE)


def distance(signature: np.ndarray) -> float:
    """How far a picture is from those that the model was trained on; about 1 for those themselves.

    Args:
        signature: [domains * COMPONENTS] of :class:`engine.model.signature.Signature`.

    Returns the root mean square over the components of the nearest domain.

    >>> distance(np.repeat([2.0, 3.0], COMPONENTS))
    2.0
    """
    domains = np.reshape(signature, (-1, COMPONENTS)).astype(np.float64)
    return float(np.sqrt((domains**2).mean(axis=1)).min())


def choose_rule(rules: Mapping[int, CountingRule], steps: int) -> CountingRule:
    """The rule of the calibrated number of steps nearest to ``steps``; of two, the smaller."""
    return rules[min(rules, key=lambda known: (abs(known - steps), known))]


def haze(heatmap: np.ndarray) -> float:
    """How blurred a map [h, w] in [0, 1] is: mean of 1 - h, weighted by h; 0 if all of it is 0 or 1, near 1 if faint.

    >>> haze(np.array([[0.0, 1.0]])), haze(np.array([[0.25, 0.25]]))
    (0.0, 0.75)
    """
    total = float(heatmap.sum(dtype=np.float64))
    return 1 - float(np.vdot(heatmap, heatmap)) / total if total else 0.0


def weak_ratio(scores: np.ndarray, rule: CountingRule, count: int) -> float:
    """Peaks [N] that are neither clearly heads nor clearly clutter, for each head counted; both plus 5.

    >>> weak_ratio(np.array([0.1, 0.3, 0.9]), CountingRule(low=0.2, high=0.5), 1)
    1.1666666666666667
    """
    weak = int(((scores >= candidate_threshold(rule)) & (scores < rule.high)).sum())
    return (weak + RATIO_OFFSET) / (count + RATIO_OFFSET)


def candidate_threshold(rule: CountingRule) -> float:
    """Height from which on :func:`count_heads` asks for peaks."""
    return rule.low * _CANDIDATE_FACTOR


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
    # With one index NumPy is twice as fast as with two.
    np.add.at(density.reshape(-1), (rows * width)[:, :, None] + columns[:, None, :], splats)
    return density
