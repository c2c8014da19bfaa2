"""Fits a counting rule: how many people, between which ends, and which pictures are unlike those that it was fitted to.

All of it is fitted to held-out pictures; what the rule says of its own errors is from rules that were fitted to others
of them (cross-validation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from engine.config import RATIO_OFFSET, CountingRule
from engine.counting.heads import error_scale, weak_ratio

THRESHOLDS = np.round(np.arange(0.10, 0.82, 0.02), 2)
# Share of pictures whose true count may lie outside the interval.
MISSED = 0.1
# Held-out pictures that such an interval takes: of fewer, the outermost ratios claim less.
LEAST_PICTURES = 19
# Share of pictures that are warned of although they are like the held-out ones: for the map's haze, for its weak peaks
# and for the distance each.
_UNFAMILIAR = 0.01
# Share of pictures with fewer people than ``fewest``. With 0.05 the interval of Beijing-BRT, another data set with few
# people, held 79 % of its counts, with this 86 %; those of the held-out pictures it leaves as they are.
_FEW = 0.2
# The gate, as a share of the lowest of all held-out pictures' highest peaks. On other data, with 0.95 seven of 360
# pictures of few people became 0, with this three; of 52 pictures of nobody 7 and 10 were not 0, without a gate 22.
_GATE = 0.8
# Least mean error that a scale is begun from: of log(people + 5).
_LEAST_ERROR = 2e-3


@dataclass(frozen=True)
class Reading:
    """What a rule needs of one picture.

    Attributes:
        part: of the data set.
        true: people.
        expected: by the encoder.
        scores: of all peaks.
        haze: of the map; see :func:`engine.counting.heads.haze`.
        distance: of the picture; see :func:`engine.counting.heads.distance`.
    """

    part: str
    true: int
    expected: float
    scores: np.ndarray
    haze: float = 0.0
    distance: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A fitted rule and what it gives: mean absolute error per part, cross-validated."""

    rule: CountingRule
    errors: dict[str, float]


def fit_rule(rows: Sequence[Reading], folds: int = 10, one_threshold: bool = False) -> Fit:
    """The rule that suits all ``rows``; its errors and its interval come from rules fitted on other folds.

    With ``one_threshold``, low and high are the same, and the encoder's count has no say.
    """
    table = CountTable(rows, one_threshold)
    fold_of = np.arange(len(rows)) % folds
    counts = np.zeros(len(rows))
    for fold in range(folds):
        counts[fold_of == fold] = table.counts(table.best(fold_of != fold))[fold_of == fold]
    rule = table.best(np.ones(len(rows), bool))
    rule = replace(rule, gate=_gate(rows, rule))
    rule = _bound_doubts(_fit_interval(rule, rows, counts, fold_of), rows, counts)
    parts = np.array([row.part for row in rows])
    errors = np.abs(counts - table.true)
    return Fit(rule, {part: float(errors[parts == part].mean()) for part in sorted({row.part for row in rows})})


class CountTable:
    """The peaks of every picture above every threshold, and the rules that they are counted by best."""

    def __init__(self, rows: Sequence[Reading], one_threshold: bool = False):
        self._one_threshold = one_threshold
        self.true = np.array([row.true for row in rows])
        self._peaks = np.array([[(row.scores >= t).sum() for row in rows] for t in THRESHOLDS])  # [threshold, picture]
        self._rate = _logarithm(np.array([row.expected for row in rows]))
        parts = np.array([row.part for row in rows])
        # Every part weighs the same, whatever its number of pictures, and of people.
        self._alike, self._weights = np.zeros(len(rows)), np.zeros(len(rows))
        for part in set(parts):
            inside = parts == part
            self._alike[inside] = 1 / inside.sum()
            self._weights[inside] = 1 / (inside.sum() * max(self.true[inside].mean(), 1))

    def best(self, used: np.ndarray) -> CountingRule:
        """The rule with the least weighted error over the pictures ``used`` (bool [N]); it claims no interval.

        The widest thresholds, with which the encoder has the say, are left only for ones that are better beyond twice
        the standard error: the best of so many pairs is better by chance.
        """
        widest = CountingRule(float(THRESHOLDS[0]), float(THRESHOLDS[-1]), beyond_peaks=not self._one_threshold)
        if not used.any():
            return widest
        offset = self._fit_offset(used)
        widest = replace(widest, offset=offset)
        best, least = widest, math.inf
        for high in range(len(THRESHOLDS)):
            for low in range(high if self._one_threshold else 0, high + 1):
                rule = CountingRule(float(THRESHOLDS[low]), float(THRESHOLDS[high]), offset=offset)
                error = float(self._errors(rule)[used].sum())
                if error < least:
                    best, least = rule, error
        if self._one_threshold:
            return best
        gains = (self._errors(widest) - self._errors(best))[used]
        return best if gains.sum() > 2 * math.sqrt(len(gains)) * gains.std() else widest

    def counts(self, rule: CountingRule) -> np.ndarray:
        """What :func:`engine.counting.heads.count_heads` counts in every picture, without a gate."""
        low, high = (self._peaks[int(np.searchsorted(THRESHOLDS, x - 1e-9))] for x in (rule.low, rule.high))
        most = np.inf if rule.beyond_peaks else low
        return np.clip(np.round(np.exp(rule.offset + self._rate) - RATIO_OFFSET), high, most)

    def _errors(self, rule: CountingRule) -> np.ndarray:
        return np.abs(self.counts(rule) - self.true) * self._weights

    def _fit_offset(self, used: np.ndarray) -> float:
        """Mean logarithm of true to expected people, each part alike."""
        return float(np.average(_logarithm(self.true) - self._rate, weights=self._alike * used))


def _gate(rows: Sequence[Reading], rule: CountingRule) -> float:
    """A height that a peak of every held-out picture with people reaches; pictures of nobody seldom have such."""
    highest = [float(row.scores.max(initial=0)) for row in rows if row.true]
    return min(min(highest, default=0) * _GATE, rule.high)


def _fit_interval(rule: CountingRule, rows: Sequence[Reading], counts: np.ndarray, fold_of: np.ndarray) -> CountingRule:
    """``rule`` with the scale of its errors and their quantiles, from ``counts`` that others made."""
    true = np.array([row.true for row in rows])
    logs = _logarithm(true) - _logarithm(counts)
    fewest = float(np.quantile(counts, _FEW))
    rule = replace(rule, fewest=fewest)
    scaled = np.zeros(len(rows))
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        scaled[inside] = (logs / _scales(_fit_scale(rule, rows, counts, logs, ~inside), rows, counts))[inside]
    least, most = conformal_ends(scaled)
    rule = _fit_scale(rule, rows, counts, logs, np.ones(len(rows), bool))
    return replace(rule, least=math.exp(min(least, 0.0)), most=math.exp(max(most, 0.0)))


def conformal_ends(errors: np.ndarray) -> tuple[float, float]:
    """Split conformal prediction: 5 % of new errors fall below the first end, 5 % above the second."""
    ordered = np.sort(errors)
    # With n calibration pictures the new one is equally likely to rank anywhere among n + 1.
    rank = min(math.ceil((len(ordered) + 1) * (1 - MISSED / 2)), len(ordered)) - 1
    return float(ordered[len(ordered) - 1 - rank]), float(ordered[rank])


def _fit_scale(
    rule: CountingRule, rows: Sequence[Reading], counts: np.ndarray, logs: np.ndarray, used: np.ndarray
) -> CountingRule:
    """``rule``, which has no scale yet, with the likeliest of the errors ``logs``, which are taken for Laplace's.

    One that falls with the distance would be an accident of the few pictures.
    """
    if not used.any():
        return rule
    errors = np.abs(logs / _scales(rule, rows, counts))[used]
    sizes = _logarithm(np.maximum(counts, rule.fewest))[used]
    distances = np.log([row.distance or 1.0 for row in rows])[used]
    middle = float(sizes.mean())
    terms = np.stack([np.ones(len(sizes)), sizes - middle, distances], axis=1)

    def loss(weights: np.ndarray) -> float:
        scales = terms @ weights
        return float((scales + errors * np.exp(-scales)).mean() + (weights[1:] ** 2).sum() / len(errors))

    start = np.array([math.log(errors.mean() + _LEAST_ERROR), 0.0, 0.0])
    bounds = [(-8, 3), (-1, 1), (0, 2)]
    constant, by_count, by_distance = (float(x) for x in minimize(loss, start, bounds=bounds).x)
    return replace(rule, scale=constant - by_count * middle, scale_by_count=by_count, scale_by_distance=by_distance)


def _scales(rule: CountingRule, rows: Sequence[Reading], counts: np.ndarray) -> np.ndarray:
    return np.array([error_scale(int(count), row.distance, rule) for row, count in zip(rows, counts, strict=True)])


def _bound_doubts(rule: CountingRule, rows: Sequence[Reading], counts: np.ndarray) -> CountingRule:
    """``rule`` with the bounds beyond which a picture is unlike ``rows``."""
    weak = [weak_ratio(row.scores, rule, int(count)) for row, count in zip(rows, counts, strict=True)]
    measures = [row.haze for row in rows], weak, [row.distance for row in rows]
    rank = min(math.ceil((len(rows) + 1) * (1 - _UNFAMILIAR)), len(rows)) - 1
    most_haze, most_weak, most_distance = (sorted(x)[rank] for x in measures)
    # Without statistics of the training data every distance is 0, and none says anything.
    return replace(rule, most_haze=most_haze, most_weak=most_weak, most_distance=most_distance or 1e9)


def _logarithm(people: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(people, np.float64) + RATIO_OFFSET)
