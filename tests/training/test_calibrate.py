"""Fitting the counting rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from engine.config import CountingRule, ModelConfig, scale_count
from engine.counting.heads import HeadMaps, count_heads, weak_ratio
from engine.kernels import reference

torch = pytest.importorskip("torch")

from engine.dataset.samples import Sample  # noqa: E402
from engine.model.network import CrowdNetwork  # noqa: E402
from engine.training.calibrate import THRESHOLDS, Reading, _CountTable, calibrate, fit_rule, read_pictures  # noqa: E402

SMALL = ModelConfig(widths=(32,) * 5, depths=(0,) * 5, features=32, attention_dim=16, decoder_width=32)


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
    table = _CountTable(_readings(30))
    low, high = table.best(np.ones(30, bool))
    assert 0.38 <= THRESHOLDS[low] <= THRESHOLDS[high] <= 0.52
    assert table.errors[low, high].sum() == 0


def test_a_good_expectation_is_followed() -> None:
    rows = [Reading("part_A", r.true, float(r.true), np.full(2 * r.true, 0.45, np.float32)) for r in _readings(20)]
    table = _CountTable(rows)
    low, high = table.best(np.ones(20, bool))
    # All peaks alike: only the expectation can tell how many are heads.
    assert THRESHOLDS[low] <= 0.45 < THRESHOLDS[high]
    assert table.errors[low, high].sum() == 0


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
    inside = [scale_count(len(r.scores), rule.least) <= r.true <= scale_count(len(r.scores), rule.most) for r in new]
    assert 0.87 <= np.mean(inside) <= 0.94


def test_the_table_counts_as_the_engine_does() -> None:
    rows = _readings(6, seed=3)
    table = _CountTable(rows)
    for low, high in [(0, 10), (5, 5), (3, 30)]:
        rule = CountingRule(float(THRESHOLDS[low]), float(THRESHOLDS[high]))
        for number, row in enumerate(rows):
            heatmap = np.zeros((3, 2 * len(row.scores) + 1), np.float32)
            heatmap[1, 1::2] = row.scores
            counted = count_heads(
                HeadMaps(heatmap, np.zeros_like(heatmap), row.expected, False), rule, reference.find_peaks
            )
            assert abs(len(counted.points) - row.true) == table.errors[low, high, number]


def test_a_network_is_read_and_calibrated_end_to_end(tmp_path) -> None:
    samples = []
    for i, size in enumerate([(64, 96), (50, 33), (40, 64)]):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        samples.append(Sample(tmp_path / f"{i}.png", np.zeros((3, 2), np.float32), "part_A"))
    torch.manual_seed(0)
    network = CrowdNetwork(SMALL).eval()
    readings = read_pictures(network, SMALL, samples, (1, 2))
    assert [len(rows) for rows in readings.values()] == [3, 3]
    assert all(row.true == 3 and np.isfinite(row.expected) for row in readings[2])
    fits = calibrate(network, SMALL, samples, steps=(1, 2), folds=3)
    assert fits.keys() == {1, 2}
    assert all(fit.rule.low <= fit.rule.high and fit.errors.keys() == {"part_A"} for fit in fits.values())
