"""Training targets against a direct evaluation of their definition."""

from __future__ import annotations

import numpy as np
import pytest

from engine.diffusion.head_map import head_map
from engine.training.targets import block_counts

SIZES = [(1, 1), (1, 9), (5, 3), (16, 16), (33, 20)]


def slow_head_map(points, height, width, stride):
    """Every cell: the largest of exp(-d^2 / 2) over the heads whose cell is at most 3 rows and columns away."""
    heat = np.zeros((height, width))
    for x, y in points:
        column, row = int(x // stride), int(y // stride)
        for r in range(height):
            for c in range(width):
                if max(abs(r - row), abs(c - column)) <= 3:
                    heat[r, c] = max(heat[r, c], np.exp(-((r - row) ** 2 + (c - column) ** 2) / 2))
    return heat


def random_points(rng, count, height, width, stride):
    return (rng.random((count, 2)) * [width * stride, height * stride] * 0.9999).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [0, 1, 2, 25])
@pytest.mark.parametrize("stride", [2, 8])
def test_head_map_is_its_definition(size, count, stride):
    points = random_points(np.random.default_rng((count, stride, *size)), count, *size, stride)
    heat = head_map(points, *size, stride)
    assert heat.shape == size
    assert heat.dtype == np.float32
    # float32 of values in [0, 1].
    np.testing.assert_allclose(heat, slow_head_map(points, *size, stride), atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_each_cell_with_a_head_is_one_and_no_other(size):
    points = random_points(np.random.default_rng(3), 30, *size, 2)
    cells = {(int(y // 2), int(x // 2)) for x, y in points}
    assert {tuple(c) for c in np.argwhere(head_map(points, *size, 2) == 1).tolist()} == cells


def test_neighbours_combine_by_maximum():
    heat = head_map(np.float32([[9, 9], [13, 9]]), 9, 12, 2)
    assert heat[4, 4] == heat[4, 6] == 1
    # Midway between two heads a sum would be 2 * exp(-1/2) = 1.21.
    assert heat[4, 5] == pytest.approx(np.exp(-0.5))


@pytest.mark.parametrize("point", [(0, 0), (15.99, 0), (0, 11.99), (15.99, 11.99), (16, 12)])
def test_heads_on_the_border_stay_in_the_map(point):
    heat = head_map(np.float32([point]), 6, 8, 2)
    assert (heat == 1).sum() == 1
    assert heat.argmax() == (40 if point[1] > 6 else 0) + (7 if point[0] > 8 else 0)
    assert block_counts(np.float32([point]), 6, 8, 2).sum() == 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [0, 1, 40])
def test_block_counts_are_a_histogram(size, count):
    height, width = size
    points = random_points(np.random.default_rng(count), count, *size, 16)
    counts = block_counts(points, *size, 16)
    edges = (np.arange(height + 1) * 16, np.arange(width + 1) * 16)
    np.testing.assert_array_equal(counts, np.histogram2d(points[:, 1], points[:, 0], bins=edges)[0])
    assert counts.sum() == count
    assert counts.dtype == np.float32


def test_heads_in_one_cell_count_each_but_peak_once():
    points = np.float32([[5, 5], [5.2, 5.1], [4.1, 5.9]])
    assert (head_map(points, 8, 8, 2) == 1).sum() == 1
    assert block_counts(points, 1, 1, 16)[0, 0] == 3
