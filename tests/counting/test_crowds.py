"""Heads without a peak of their own, on maps where it is known where they have to stand."""

from __future__ import annotations

import numpy as np
import pytest

from engine.counting.crowds import find_merged

NOBODY = np.zeros((0, 2), np.float32)


def test_they_stand_where_the_rate_exceeds_the_peaks() -> None:
    rng = np.random.default_rng(0)
    heatmap = rng.uniform(0.1, 0.5, (24, 40)).astype(np.float32)
    rate = np.zeros((6, 10), np.float32)
    rate[1, 2], rate[4, 7] = 5, 6
    # All five heads of the first crowd have peaks, and two of the six of the second.
    points = [(9.5 + x, 5.5) for x in range(3)] + [(9.5, 7.5), (11.5, 7.5), (28.5, 16.5), (31.5, 19.5)]
    found, scores = find_merged(heatmap, rate, 4, np.array(points, np.float32), 4)
    # The second crowd's block and its neighbours: what it lacks is spread over them.
    assert ((found >= [24, 12]) & (found < [36, 24])).all()
    rows, columns = np.floor(found[:, 1]).astype(int), np.floor(found[:, 0]).astype(int)
    assert np.array_equal(scores, heatmap[rows, columns])


def test_a_head_whose_peak_is_in_the_next_block_is_not_missed() -> None:
    """The encoder expects one head in a block without a peak, whose peak stands just across its edge, and one more."""
    heatmap, rate = np.full((32, 48), 0.2, np.float32), np.zeros((8, 12), np.float32)
    rate[1, 1] = rate[5, 7] = 1
    across = np.array([[32.5, 21.5]], np.float32)
    found, _ = find_merged(heatmap, rate, 4, across, 1)
    assert (found < 12).all()


def test_a_crowd_gets_as_many_as_its_rate_is_above_its_peaks() -> None:
    """Ten are expected at the left, where six have peaks, and six at the right, where none has."""
    heatmap, rate = np.full((24, 64), 0.3, np.float32), np.zeros((6, 16), np.float32)
    rate[2, 2], rate[2, 12] = 10, 6
    peaks = np.array([(8.5 + x, 8.5 + y) for x in range(3) for y in range(2)], np.float32)
    found, _ = find_merged(heatmap, rate, 4, peaks, 10)
    assert [(found[:, 0] < 32).sum(), (found[:, 0] > 32).sum()] == [4, 6]


@pytest.mark.parametrize("cells", [4, 8])
def test_of_cells_that_are_equal_the_first_in_raster_order_are_taken(cells: int) -> None:
    """Of few equals every sort keeps the order, and of more than 16 stable ones alone."""
    heatmap = np.full((cells, cells), 0.4, np.float32)
    heatmap[:, ::2] = 0.5
    missing = cells * cells // 3
    found, _ = find_merged(heatmap, np.ones((1, 1), np.float32), cells, NOBODY, missing)
    places = [[column + 0.5, row + 0.5] for row in range(cells) for column in range(0, cells, 2)]
    assert found.tolist() == places[:missing]


def test_the_highest_cells_of_a_block_come_first_and_those_beside_a_peak_last() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[0, 0], heatmap[0, 1], heatmap[2, 3], heatmap[3, 1] = 0.9, 0.8, 0.3, 0.4
    rate, peak = np.ones((1, 1), np.float32), np.array([[0.5, 0.5]], np.float32)

    def cells(missing: int) -> set[tuple[float, float]]:
        return {(x - 0.5, y - 0.5) for x, y in find_merged(heatmap, rate, 4, peak, missing)[0].tolist()}

    assert cells(1) == {(1, 3)}
    assert cells(2) == {(1, 3), (3, 2)}
    # All twelve that are not beside the peak, and of the three others the highest.
    assert cells(13) == {(x, y) for x in range(4) for y in range(4) if max(x, y) > 1} | {(1, 0)}


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (16, 16), (41, 30)])
@pytest.mark.parametrize("cells", [1, 2, 4, 8])
@pytest.mark.parametrize("known", ["rate", "no rate", "negative rate"])
def test_each_has_a_free_cell_of_its_own(shape: tuple[int, int], cells: int, known: str) -> None:
    rng = np.random.default_rng(0)
    heatmap = rng.random(shape, np.float32)
    rate = rng.exponential(1, (-(-shape[0] // cells), -(-shape[1] // cells))).astype(np.float32) ** 3
    rate *= {"rate": 1, "no rate": 0, "negative rate": -1}[known]
    taken = rng.permutation(heatmap.size)[: heatmap.size // 5]
    points = np.stack([taken % shape[1], taken // shape[1]], axis=1) + rng.uniform(0.01, 0.99, (len(taken), 2))
    for missing in {0, 1, heatmap.size // 3, heatmap.size - len(taken)} - {heatmap.size}:
        found, scores = find_merged(heatmap, rate, cells, points.astype(np.float32), missing)
        numbers = np.floor(found[:, 1]).astype(int) * shape[1] + np.floor(found[:, 0]).astype(int)
        assert len(scores) == len(set(numbers)) == missing
        assert not set(numbers) & set(taken)
        assert list(numbers) == sorted(numbers)
        again = find_merged(heatmap, rate, cells, points.astype(np.float32), missing)
        assert np.array_equal(found, again[0])


def test_an_even_crowd_without_a_peak_is_spread_evenly() -> None:
    found, _ = find_merged(np.full((64, 64), 0.3, np.float32), np.ones((16, 16), np.float32), 4, NOBODY, 64)
    counts = np.histogram2d(found[:, 1], found[:, 0], bins=4, range=[(0, 64), (0, 64)])[0]
    assert (abs(counts - 4) <= 1).all()
