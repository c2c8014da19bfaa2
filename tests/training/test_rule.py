"""Fitting the counting rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from engine.config import CountingRule, scale_count
from engine.counting.heads import HeadMaps, count_heads, error_scale, weak_ratio
from engine.kernels import reference

pytest.importorskip("torch")

from engine.training.rule import THRESHOLDS, CountTable, Reading, fit_rule

EVERY = np.ones(30, bool)


def _readings(number: int, seed: int = 0) -> list[Reading]:
    """Pictures whose true heads peak above 0.5 and whose clutter peaks below 0.4."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(number):
        heads, clutter = rng.integers(5, 60), rng.integers(0, 40)
        scores = np.concatenate([rng.uniform(0.5, 1.0, heads), rng.uniform(0.1, 0.4, clutter)]).astype(np.float32)
        rows.append(Reading(f"part_{'AB'[i % 2]}", int(heads), float(rng.uniform(0, 200)), scores))
    return rows


def test_separable_peaks_are_separated_whatever_the_encoder_expects() -> None:
    table = CountTable(_readings(30))
    rule = table.best(EVERY)
    assert 0.38 <= rule.high <= 0.52
    assert (table.counts(rule) == table.true).all()


def test_a_good_expectation_is_followed() -> None:
    rows = [Reading("part_A", r.true, float(r.true), np.full(2 * r.true, 0.45, np.float32)) for r in _readings(30)]
    table = CountTable(rows)
    rule = table.best(EVERY)
    # All peaks alike: only the expectation can tell how many are heads.
    assert rule.low <= 0.45 < rule.high
    assert (table.counts(rule) == table.true).all()


def test_an_encoder_that_expects_a_tenth_too_many_is_put_right() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for true in np.unique(rng.geometric(0.01, 60)):
        # Half of the heads peak high, with as many peaks of clutter as there are heads below.
        scores = np.concatenate([np.full(true // 2, 0.9), np.full(2 * true, 0.3)]).astype(np.float32)
        rows.append(Reading("part_A", int(true), 1.1 * (true + 5) - 5, scores))
    table = CountTable(rows)
    rule = table.best(np.ones(len(rows), bool))
    assert rule.offset == pytest.approx(-np.log(1.1))
    assert (table.counts(rule) == table.true).all()
    assert rule.low <= 0.3 < rule.high


def test_every_part_has_the_same_say_in_what_the_encoder_expects() -> None:
    rows = [Reading("part_A", 95, 195.0, np.full(400, 0.3, np.float32))] * 9
    rows += [Reading("part_B", 195, 195.0, np.full(400, 0.3, np.float32))] * 90
    assert CountTable(rows).best(np.ones(99, bool)).offset == pytest.approx(np.log(0.5) / 2)


def test_every_part_has_the_same_say_in_the_thresholds_whatever_its_pictures_and_people() -> None:
    def picture(part: str, true: int, high: int, low: int) -> Reading:
        return Reading(part, true, 0.0, np.repeat(np.float32([0.9, 0.5]), [high, low]))

    # Below 0.5 a picture of A is off by all of its ten people; above, one of B by 15 of its hundred.
    rows = [picture("part_A", 10, 10, 10)] * 3 + [picture("part_B", 100, 85, 15)] * 30
    assert CountTable(rows, one_threshold=True).best(np.ones(33, bool)).low > 0.5


def test_thresholds_that_are_better_by_chance_alone_are_not_taken() -> None:
    rng = np.random.default_rng(0)
    # The encoder is right within a tenth, and the number of peaks says little.
    rows = []
    for true in rng.integers(20, 300, 60):
        scores = rng.uniform(0.1, 1.0, rng.integers(2, 5) * true).astype(np.float32)
        rows.append(Reading("part_A", int(true), float(true * rng.uniform(0.9, 1.1)), scores))
    rule = CountTable(rows).best(np.ones(60, bool))
    assert (rule.low, rule.high) == (THRESHOLDS[0], THRESHOLDS[-1])


def test_nearly_all_pictures_like_the_held_out_ones_are_in_distribution() -> None:
    def pictures(seed: int) -> list[Reading]:
        rng = np.random.default_rng(seed)
        return [dataclasses.replace(row, haze=float(rng.normal(0.7, 0.05))) for row in _readings(1000, seed)]

    rule = fit_rule(pictures(0)).rule
    new = pictures(1)
    assert 0.005 <= np.mean([row.haze > rule.most_haze for row in new]) <= 0.04
    weak = [weak_ratio(row.scores, rule, int((row.scores >= rule.high).sum())) for row in new]
    assert np.mean([ratio > rule.most_weak for ratio in weak]) <= 0.04
    # Ten times the clutter is not like them.
    row = new[0]
    assert weak_ratio(np.repeat(row.scores, 10), rule, row.true) > rule.most_weak


def test_a_single_picture_gives_a_rule() -> None:
    rule = fit_rule(_readings(1)).rule
    assert (rule.scale_by_count, rule.scale_by_distance) == pytest.approx((0, 0), abs=1e-6)
    assert rule.least <= 1 <= rule.most


def test_one_threshold_leaves_the_expectation_out() -> None:
    rule = fit_rule(_readings(30), one_threshold=True).rule
    assert rule.low == rule.high
    assert 0.38 <= rule.low <= 0.52


def test_the_interval_holds_nine_in_ten_new_pictures() -> None:
    rng = np.random.default_rng(0)

    def pictures(number: int) -> list[Reading]:
        rows = []
        for _ in range(number):
            found = int(rng.integers(20, 300))
            # What is found differs from the truth by a fifth, up or down.
            true = round(found * np.exp(rng.normal(0, 0.2)))
            rows.append(Reading("part_A", true, float(found), np.full(found, 0.9, np.float32)))
        return rows

    rule = fit_rule(pictures(400)).rule
    new = pictures(2000)
    assert 0.87 <= np.mean([_holds(rule, row) for row in new]) <= 0.94


def _holds(rule: CountingRule, row: Reading) -> bool:
    """Whether the calibrated interval of a picture all of whose peaks are counted has its people."""
    count = len(row.scores)
    scale = error_scale(count, row.distance, rule)
    return scale_count(count, rule.least**scale) <= row.true <= scale_count(count, rule.most**scale)


def test_the_interval_is_narrow_where_errors_are_small() -> None:
    rng = np.random.default_rng(0)

    def pictures(number: int) -> list[Reading]:
        """Far pictures are off by a third, near ones by a thirtieth."""
        rows = []
        for found in rng.integers(100, 300, number):
            distance = float(rng.choice([0.5, 2.0]))
            true = round(found * np.exp(rng.normal(0, 0.033 if distance < 1 else 0.33)))
            scores = np.full(found, 0.9, np.float32)
            rows.append(Reading("part_A", true, float(found), scores, distance=distance))
        return rows

    rule = fit_rule(pictures(1200)).rule
    new = pictures(2000)
    for near in (True, False):
        assert 0.86 <= np.mean([_holds(rule, row) for row in new if (row.distance < 1) == near]) <= 0.95
    assert error_scale(200, 2.0, rule) > 5 * error_scale(200, 0.5, rule)


def test_below_the_fewest_people_of_the_calibration_errors_are_those_of_a_poisson_number() -> None:
    rule = CountingRule(0.3, 0.7, scale=-1.0, scale_by_count=0.2, fewest=95)
    at_the_end = error_scale(95, 1.0, rule)
    assert error_scale(20, 1.0, rule) == pytest.approx(2 * at_the_end)
    assert error_scale(0, 1.0, rule) == pytest.approx(20**0.5 * at_the_end)
    assert error_scale(195, 1.0, rule) == pytest.approx(2**0.2 * at_the_end)


def test_nobody_is_counted_where_no_peak_is_as_high_as_in_any_picture_with_people() -> None:
    rows = _readings(40)
    rule = fit_rule([*rows, Reading("part_A", 0, 0.2, np.array([0.2], np.float32))]).rule
    lowest = min(row.scores.max() for row in rows)
    assert 0 < rule.gate == pytest.approx(min(0.8 * lowest, rule.high))


def test_nearly_all_pictures_like_the_held_out_ones_are_near() -> None:
    def pictures(seed: int) -> list[Reading]:
        rng = np.random.default_rng(seed)
        return [dataclasses.replace(row, distance=float(rng.chisquare(32) / 32)) for row in _readings(1000, seed)]

    rule = fit_rule(pictures(0)).rule
    assert 0.002 <= np.mean([row.distance > rule.most_distance for row in pictures(1)]) <= 0.02
    assert fit_rule(_readings(40)).rule.most_distance == 1e9


def test_the_table_counts_as_the_engine_does() -> None:
    rows = _readings(6, seed=3)
    table = CountTable(rows)
    for low, high, offset in [(0, 10, 0.0), (5, 5, 0.1), (3, 30, -0.2), (0, 30, 0.3)]:
        rule = CountingRule(float(THRESHOLDS[low]), float(THRESHOLDS[high]), offset=offset, beyond_peaks=offset > 0.2)
        for row, count in zip(rows, table.counts(rule), strict=True):
            heatmap = np.zeros((12, 2 * len(row.scores) + 1), np.float32)
            heatmap[1, 1::2] = row.scores
            rate = np.ones((3, -(-heatmap.shape[1] // 4)), np.float32)
            maps = HeadMaps(heatmap, np.zeros_like(heatmap), rate, 4, row.expected, False)
            assert len(count_heads(maps, rule, reference.find_peaks).points) == count
