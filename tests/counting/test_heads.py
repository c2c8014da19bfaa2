"""From head maps to counts, on maps whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.config import COMPONENTS, CountingRule
from engine.counting.heads import HeadMaps, choose_rule, count_heads, density_map, distance
from engine.counting.heads import haze as measured_haze
from engine.errors import NotFiniteError
from engine.kernels import reference

RULE = CountingRule(low=0.3, high=0.6)


def _maps(heights: list[float], expected: float, spread: float | None = None) -> HeadMaps:
    """Separate peaks of the given heights on one row."""
    heatmap = np.zeros((5, 4 * len(heights) + 2), np.float32)
    heatmap[2, 2 : 2 + 4 * len(heights) : 4] = heights
    rate = np.ones((2, -(-heatmap.shape[1] // 4)), np.float32)
    return HeadMaps(heatmap, np.full(heatmap.shape, spread or 0, np.float32), rate, 4, expected, spread is not None)


@pytest.mark.parametrize(
    ("expected", "count"),
    [(0.0, 2), (2.4, 2), (2.6, 3), (3.0, 3), (4.0, 4), (99.0, 4)],
    ids=lambda x: str(x),
)
def test_the_expected_number_picks_among_uncertain_peaks_only(expected: float, count: int) -> None:
    counted = count_heads(_maps([0.9, 0.35, 0.65, 0.5, 0.2], expected), RULE, reference.find_peaks)
    assert len(counted.points) == len(counted.scores) == count
    assert sorted(counted.scores, reverse=True) == pytest.approx([0.9, 0.65, 0.5, 0.35][:count])
    # Raster order, whatever their strength.
    assert list(counted.points[:, 0]) == sorted(counted.points[:, 0])


@pytest.mark.parametrize("number", [17, 40, 300])
def test_of_peaks_that_are_equal_the_first_in_raster_order_count(number: int) -> None:
    """Of few equals every sort keeps the order, and of more than 16 stable ones alone."""
    for heights in ([0.5] * number, [0.5, 0.4] * number, [0.4, 0.5, 0.5] * number):
        highest = [i for i, height in enumerate(heights) if height == max(heights)]
        counted = count_heads(_maps(heights, 2 * number // 3), RULE, reference.find_peaks)
        assert counted.points[:, 0].astype(int).tolist() == [2 + 4 * i for i in highest[: 2 * number // 3]]


def test_more_people_than_peaks_are_counted_where_the_rule_says_so() -> None:
    heights = [0.9, 0.35, 0.65, 0.5, 0.2]
    maps, rule = _maps(heights, 9), replace(RULE, beyond_peaks=True)
    counted = count_heads(maps, rule, reference.find_peaks)
    # The peaks come first, those below "low" too; the interval holds the count.
    assert counted.scores[:5] == pytest.approx(heights)
    assert len(counted.points) == len(np.unique(np.floor(counted.points), axis=0)) == 9
    assert counted.interval == (2, 9)
    # One head for four cells is the most, and with peaks enough the rule changes nothing.
    assert len(count_heads(replace(maps, expected=1e30), rule, reference.find_peaks).points) == 5 * 22 // 4
    few = [count_heads(replace(maps, expected=3.0), x, reference.find_peaks) for x in (rule, RULE)]
    assert np.array_equal(few[0].points, few[1].points)
    # The gate holds for both.
    assert not len(count_heads(maps, replace(rule, gate=0.95), reference.find_peaks).points)


@pytest.mark.parametrize("spread", [None, 0.2])
def test_people_are_counted_who_have_no_peak_at_all(spread: float | None) -> None:
    """As after hardly any training: the map is flat, and the rule's gate is open."""
    maps = replace(_maps([0, 0], 3, spread), heatmap=np.full((5, 10), 0.1, np.float32))
    counted = count_heads(maps, replace(RULE, beyond_peaks=True), reference.find_peaks)
    assert len(counted.points) == len(np.unique(np.floor(counted.points), axis=0)) == 3
    assert counted.interval == (0, 3)


def test_without_spread_the_interval_runs_from_certain_to_possible_peaks() -> None:
    assert count_heads(_maps([0.9, 0.35, 0.65, 0.5, 0.2], 3), RULE, reference.find_peaks).interval == (2, 4)


def test_spread_widens_the_interval_around_the_chosen_threshold() -> None:
    heights = [0.9, 0.35, 0.65, 0.5, 0.2]
    still = count_heads(_maps(heights, 3, spread=0.0), RULE, reference.find_peaks)
    # Threshold 0.5 (the third peak): 0.9 survives a loss of 0.2, as 0.65 does not; 0.35 gains it.
    moved = count_heads(_maps(heights, 3, spread=0.2), RULE, reference.find_peaks)
    assert still.interval == (3, 3)
    assert moved.interval == (1, 4)


def test_the_spread_of_a_peak_is_that_of_its_own_cell() -> None:
    maps = _maps([0.9, 0.5, 0.5, 0.4], 2, spread=0.0)
    # Two are chosen, so the threshold is 0.5, which the third peak reaches as well.
    assert count_heads(maps, RULE, reference.find_peaks).interval == (2, 3)
    maps.spread[2, 14] = 0.15
    assert count_heads(maps, RULE, reference.find_peaks).interval == (2, 4)
    maps.spread[2, 2] = 0.5
    assert count_heads(maps, RULE, reference.find_peaks).interval == (2, 4)
    maps.spread[2, 6] = maps.spread[2, 10] = 0.1
    assert count_heads(maps, RULE, reference.find_peaks).interval == (0, 4)


@pytest.mark.parametrize(("steps", "chosen"), [(1, 1), (4, 3), (5, 5), (7, 5), (8, 10), (99, 10)])
def test_the_rule_is_that_of_the_nearest_number_of_steps(steps: int, chosen: int) -> None:
    rules = {number: replace(RULE, offset=number / 100) for number in (10, 1, 5, 2, 3)}
    assert choose_rule(rules, steps) == rules[chosen]


def test_the_calibrated_error_widens_the_interval() -> None:
    rule = CountingRule(low=0.3, high=0.6, least=0.5, most=2.0)
    maps = _maps([0.9, 0.8, 0.7, 0.65, 0.62], 5, spread=0.0)
    # Five counted: (5 + 5) / 2 - 5 = 0 to (5 + 5) * 2 - 5 = 15.
    assert count_heads(maps, rule, reference.find_peaks).interval == (0, 15)
    assert count_heads(_maps([0.0], 0, spread=0.0), rule, reference.find_peaks).interval == (0, 5)


def test_the_rate_is_put_right_by_the_offset() -> None:
    # exp(-0.5) of 20 is 12.1.
    rule = CountingRule(low=0.3, high=0.6, offset=-0.5)
    assert len(count_heads(_maps([0.9, 0.8, *[0.5] * 9], 15), rule, reference.find_peaks).points) == 7


@pytest.mark.parametrize("expected", [-1e30, 1e300])
@pytest.mark.parametrize("sign", [-1e9, 1e9])
def test_rules_and_rates_beyond_all_numbers_are_no_failure(expected, sign) -> None:
    weights = dict.fromkeys(("offset", "scale", "scale_by_count", "scale_by_distance"), sign)
    rule = CountingRule(0.3, 0.6, least=1e-9, most=1e9, fewest=1e9, **weights)
    counted = count_heads(replace(_maps([0.9, 0.5], expected), distance=1e30), rule, reference.find_peaks)
    assert 1 <= len(counted.points) <= 2
    assert 0 <= counted.interval[0] <= counted.interval[1] < 2**63


def test_without_a_peak_as_high_as_the_gate_nobody_is_counted() -> None:
    rule = CountingRule(low=0.3, high=0.6, gate=0.5, most=1.2)
    heights = [0.45, 0.4, 0.35]
    assert len(count_heads(_maps([*heights, 0.5], 3, spread=0.0), rule, reference.find_peaks).points) == 3
    gated = count_heads(_maps(heights, 3, spread=0.0), rule, reference.find_peaks)
    assert (len(gated.points), gated.interval) == (0, (0, 1))
    # Those that the gate keeps out are doubted as if they counted.
    assert gated.in_distribution
    far = replace(_maps(heights, 3, spread=0.0), distance=2.0)
    assert not count_heads(far, replace(rule, most_distance=1.5), reference.find_peaks).in_distribution


def test_the_calibrated_error_is_scaled_by_count_and_distance() -> None:
    rule = CountingRule(0.3, 0.6, least=0.5, most=2.0, scale_by_count=1.0, scale_by_distance=2.0, fewest=5)
    maps = _maps([0.9, 0.8, 0.7, 0.65, 0.62], 5, spread=0.0)

    def interval(distance: float) -> tuple[int, int]:
        return count_heads(replace(maps, distance=distance), rule, reference.find_peaks).interval

    # Five counted, 10 with the offset: a scale of 10 * d^2.
    # No scale is above 5.
    assert interval(1.0)[1] == pytest.approx(10 * 2**5 - 5, abs=1)
    assert interval(0.3) == (0, math.ceil(10 * 2**0.9 - 5))
    assert interval(0.0) == interval(1.0)


def test_a_picture_far_from_those_of_the_calibration_is_told() -> None:
    rule = CountingRule(0.3, 0.6, most_distance=1.5)
    maps = _maps([0.9, 0.8], 2)
    assert count_heads(replace(maps, distance=1.5), rule, reference.find_peaks).in_distribution
    assert not count_heads(replace(maps, distance=1.6), rule, reference.find_peaks).in_distribution
    # A picture without anybody is not doubted.
    assert count_heads(replace(_maps([0.0], 0), distance=1.6), rule, reference.find_peaks).in_distribution


def test_the_distance_is_that_to_the_nearest_domain() -> None:
    near, far = np.random.default_rng(0).normal(size=(2, COMPONENTS)) * [[0.9], [3.0]]
    expected = np.sqrt(np.mean(near**2))
    assert distance(np.concatenate([far, near]).astype(np.float32)) == pytest.approx(expected)
    assert distance(np.zeros(COMPONENTS, np.float32)) == 0


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_no_count(broken: float) -> None:
    with pytest.raises(NotFiniteError, match="not finite"):
        count_heads(_maps([0.9, 0.7], expected=broken), RULE, reference.find_peaks)
    with pytest.raises(NotFiniteError, match="not finite"):
        count_heads(_maps([0.9, broken], expected=2.0), RULE, reference.find_peaks)
    with pytest.raises(NotFiniteError, match="not finite"):
        count_heads(replace(_maps([0.9], expected=2.0), distance=broken), RULE, reference.find_peaks)


def test_an_empty_map_counts_nobody() -> None:
    counted = count_heads(_maps([0.0], 5.0, spread=0.1), RULE, reference.find_peaks)
    assert counted.points.shape == (0, 2)
    assert counted.scores.shape == (0,)
    assert counted.interval == (0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 30)])
def test_density_sums_to_the_count_even_at_borders(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    points = (rng.random((25, 2)) * [shape[1], shape[0]]).astype(np.float32)
    points[:4] = [[0, 0], [shape[1] - 1e-3, 0], [0, shape[0] - 1e-3], [shape[1] - 1e-3, shape[0] - 1e-3]]
    density = density_map(points, *shape)
    assert density.dtype == np.float32
    assert density.shape == shape
    assert density.sum(dtype=np.float64) == pytest.approx(25, abs=1e-3)
    assert (density >= 0).all()


@pytest.mark.parametrize(("x", "y"), [(10.5, 7.5), (10.0, 7.9), (14.25, 12.125)])
def test_density_is_a_gaussian_around_its_head(x: float, y: float) -> None:
    columns, rows = np.arange(30), np.arange(20)[:, None]
    gaussian = np.exp(-((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2) / (2 * 1.5**2))
    gaussian[(abs(columns - int(x)) > 4) | (abs(rows - int(y)) > 4)] = 0
    density = density_map(np.array([[x, y]], np.float32), 20, 30)
    np.testing.assert_allclose(density, gaussian / gaussian.sum(), atol=1e-6)
    assert not density_map(np.zeros((0, 2), np.float32), 4, 4).any()


@pytest.mark.parametrize("at", [(1.25, 7.5), (0.1, 19.75), (29.9, 0.5), (15.0, 1.0)])
def test_density_of_a_head_at_the_border_is_cut_there(at: tuple[float, float]) -> None:
    """What would lie outside is not heaped up on the border, but spread over the rest in proportion."""
    (x, y), margin = at, 9
    inside = density_map(np.array([at], np.float32), 20, 30)
    whole = density_map(np.array([[x + margin, y + margin]], np.float32), 20 + 2 * margin, 30 + 2 * margin)
    cut = whole[margin:-margin, margin:-margin]
    assert 0.1 < cut.sum() < 0.99
    np.testing.assert_allclose(inside, cut / cut.sum(), atol=1e-6)


def test_a_picture_is_in_distribution_within_both_bounds() -> None:
    heatmap = np.zeros((9, 9), np.float32)
    heatmap[1, 1], heatmap[1, 5], heatmap[5, 5] = 0.9, 0.8, 0.3
    maps = HeadMaps(heatmap, np.zeros_like(heatmap), np.ones((3, 3), np.float32), 4, 2.0, False)
    # sum h (1 - h) / sum h, and one peak below high against two heads.
    haze, weak = (0.09 + 0.16 + 0.21) / 2.0, (1 + 5) / (2 + 5)

    def in_distribution(most_haze: float, most_weak: float) -> bool:
        rule = CountingRule(0.4, 0.5, most_haze=most_haze, most_weak=most_weak)
        return count_heads(maps, rule, reference.find_peaks).in_distribution

    # Bounds are the numbers of pictures of the calibration, which are within them.
    assert in_distribution(measured_haze(heatmap), weak)
    assert in_distribution(haze + 1e-5, weak)
    assert not in_distribution(haze - 1e-5, weak + 1e-5)
    assert not in_distribution(haze + 1e-5, weak - 1e-5)


def test_a_picture_of_nobody_is_in_distribution() -> None:
    heatmap = np.full((9, 9), 0.05, np.float32)
    maps = HeadMaps(heatmap, np.zeros_like(heatmap), np.zeros((3, 3), np.float32), 4, 0.0, False)
    rule = CountingRule(0.4, 0.5, most_haze=0.1, most_weak=0.1)
    assert count_heads(maps, rule, reference.find_peaks).in_distribution
