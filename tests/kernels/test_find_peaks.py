"""Peak finding: the oracle on known maps and against SciPy, the C++ kernel equal to the oracle."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from engine import _core
from engine.kernels import reference

# Around the kernel's group of 64 cells and its task of 16384, and the edges.
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (17, 33), (5, 63), (5, 64), (5, 65), (130, 257), (3, 20000)]


def _map(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _assert_same(heatmap: np.ndarray, threshold: float, threads: int = 1) -> None:
    ours, expected = _core.find_peaks(heatmap, threshold, threads=threads), reference.find_peaks(heatmap, threshold)
    for a, b in zip(ours, expected, strict=True):
        assert (a.dtype, a.shape) == (np.float32, b.shape)
        assert np.array_equal(a, b)


def _cells(points: np.ndarray) -> list[tuple[int, int]]:
    """(y, x) of the cells of peaks that are not refined."""
    return [(int(y), int(x)) for x, y in points]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_oracle_is_a_maximum_filter_where_nothing_ties(shape: tuple[int, int]) -> None:
    # A permutation has no ties.
    cells = np.random.default_rng(1).permutation(shape[0] * shape[1]).reshape(shape).astype(np.float32)
    threshold = cells.size // 3
    largest = ndimage.maximum_filter(cells, size=3, mode="constant", cval=-np.inf)
    points, scores = reference.find_peaks(cells, threshold)
    y, x = np.nonzero((cells == largest) & (cells >= threshold))
    assert np.array_equal(scores, cells[y, x])
    assert (np.abs(points - np.stack([x + 0.5, y + 0.5], axis=1)) <= 0.5).all()


def test_oracle_finds_the_vertex_of_a_paraboloid() -> None:
    y, x = np.mgrid[:7, :9] + 0.5
    points, _ = reference.find_peaks(5 - (x - 4.7) ** 2 - 2 * (y - 3.2) ** 2, 0.0)
    np.testing.assert_allclose(points, [[4.7, 3.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1]], [(0, 0)]),
        ([[1, 1, 1]], [(0, 0)]),
        ([[1, 1], [1, 1]], [(0, 0)]),
        # The second 2 of a diagonal tie is an earlier neighbour's equal; the third touches neither.
        ([[0, 2, 0, 0], [2, 0, 0, 2], [0, 0, 0, 0]], [(0, 1), (1, 3)]),
        # Below the threshold.
        ([[0.4, 0.0, 0.5]], [(0, 2)]),
        # The rule sees 3x3 cells only: a plateau that begins in two places counts at both.
        ([[0, 0, 3], [3, 3, 0], [0, 0, 3]], [(0, 2), (1, 0)]),
    ],
)
def test_ties_belong_to_the_first_cell(rows: list[list[float]], expected: list[tuple[int, int]]) -> None:
    cells = np.array(rows, np.float32)
    for find in (reference.find_peaks, _core.find_peaks):
        points, scores = find(cells, 0.5)
        assert _cells(points) == expected
        assert scores.tolist() == [cells[cell] for cell in expected]


def test_nan_and_infinity() -> None:
    nan, inf = np.nan, np.inf
    cells = np.array([[nan, 1, nan, inf, 0.9], [0, 0, 0, 0, 0], [-inf, 2, 1, inf, inf]], np.float32)
    for find in (reference.find_peaks, _core.find_peaks):
        points, scores = find(cells, 0.5)
        # The neighbours of every one are missing, NaN or infinite: none is refined along x.
        assert points[:, 0].tolist() == [1.5, 3.5, 1.5, 3.5]
        assert scores.tolist() == [1, inf, 2, inf]
    _assert_same(cells, -inf)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threshold", [-np.inf, -1.0, 0.3, 5.0, np.inf])
def test_kernel_is_the_oracle(shape: tuple[int, int], threshold: float, threads: int) -> None:
    _assert_same(_map(shape), threshold, threads)


@settings(max_examples=300, deadline=None)
@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12),
        elements=st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3e38, -3e38, 1e-45]),
    ),
    st.sampled_from([-np.inf, -3.5e38, -1.0, 0.0, 0.25, 0.6, 1.0, 1e300, np.inf]),
)
def test_kernel_is_the_oracle_on_any_map(heatmap: np.ndarray, threshold: float) -> None:
    _assert_same(heatmap, threshold)


def test_threshold_is_compared_exactly() -> None:
    # 0.1 in float32 is above 0.1, and below the next float64 that rounds to it.
    cells = np.array([[0.1]], np.float32)
    for threshold, count in ((0.1, 1), (float(cells[0, 0]), 1), (np.nextafter(float(cells[0, 0]), 1.0), 0)):
        assert len(_core.find_peaks(cells, threshold)[1]) == count
        _assert_same(cells, threshold)


def test_raster_order_and_threads() -> None:
    cells = _map((300, 401))
    one = _core.find_peaks(cells, 0.0, threads=1)
    assert len(one[1]) > 1000
    # Half a cell of offset at most, either way.
    assert (np.diff(one[0][:, 1]) >= -1).all()
    for threads in (0, 2, 5):
        assert all(
            np.array_equal(a, b) for a, b in zip(_core.find_peaks(cells, 0.0, threads=threads), one, strict=True)
        )


def test_concurrent_calls_do_not_change_the_result() -> None:
    maps = [_map((150, 300 + i), seed=i) for i in range(6)]
    expected = [_core.find_peaks(cells, 0.5, threads=1) for cells in maps]
    with ThreadPoolExecutor(3) as pool:
        for ours, theirs in zip(pool.map(lambda m: _core.find_peaks(m, 0.5, threads=3), maps), expected, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("heatmap", "threshold", "message"),
    [
        (np.zeros((3, 4)), 0.0, "heatmap must be float32, got float64"),
        (np.zeros((1, 3, 4), np.float32), 0.0, r"heatmap must have 2 axes, got shape \(1, 3, 4\)"),
        (np.zeros((3, 8), np.float32)[:, ::2], 0.0, "heatmap must be C-contiguous"),
        (np.zeros((3, 8), np.float32).T, 0.0, "heatmap must be C-contiguous"),
        (np.zeros((3, 4), np.float32), np.nan, "threshold must be a number"),
    ],
)
def test_rejects(heatmap: np.ndarray, threshold: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.find_peaks(heatmap, threshold)
