"""The Triton kernel of the peaks against the oracle: exactly the same peaks, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from engine.kernels import find_peaks as module
from engine.kernels import reference
from engine.kernels.find_peaks import find_peaks

# Around the block of 256 cells: within one, across rows, and lines longer than it.
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (16, 16), (17, 31), (3, 300), (300, 3)]


def _smooth(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _find(cells: np.ndarray, threshold: float, device: str, capacity: int | None = None) -> tuple[np.ndarray, ...]:
    """points, scores and the number found."""
    heatmap = torch.from_numpy(cells).to(device)
    limit = torch.tensor([threshold], dtype=torch.float32, device=device)
    found = find_peaks(heatmap, limit, cells.size if capacity is None else capacity)
    return tuple(x.cpu().numpy() for x in found)


def _assert_same(cells: np.ndarray, threshold: float, device: str) -> None:
    points, scores, total = _find(cells, threshold, device)
    expected_points, expected_scores = reference.find_peaks(cells, threshold)
    assert total.tolist() == [len(expected_scores)]
    count = len(expected_scores)
    assert np.array_equal(points[:count], expected_points)
    assert np.array_equal(scores[:count], expected_scores)
    # Nothing is written behind the last peak.
    assert np.isnan(points[count:]).all()
    assert np.isnan(scores[count:]).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threshold", [-np.inf, 0.5, np.inf])
def test_kernel_is_the_oracle(shape: tuple[int, int], threshold: float, device: str) -> None:
    _assert_same(_smooth(shape), threshold, device)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_plateaus(shape: tuple[int, int], device: str) -> None:
    cells = np.random.default_rng(1).integers(0, 3, shape).astype(np.float32)
    _assert_same(cells, 1.0, device)
    _assert_same(np.ones(shape, np.float32), 1.0, device)


def test_infinity_among_nan(device: str) -> None:
    for centre, count in ((np.inf, 1), (-3e38, 1), (-np.inf, 0), (np.nan, 0)):
        cells = np.full((3, 3), np.nan, np.float32)
        cells[1, 1] = centre
        assert _find(cells, -np.inf, device)[2].tolist() == [count]
        _assert_same(cells, -np.inf, device)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
        elements=st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3e38, -3e38]),
    ),
    st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 1.0, np.inf]),
)
def test_kernel_is_the_oracle_on_any_map(device: str, cells: np.ndarray, threshold: float) -> None:
    _assert_same(cells, threshold, device)


def test_more_blocks_than_are_summed_at_once(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.BLOCKS, "BLOCK", 16)
    monkeypatch.setitem(module.SUMMED, "SUMMED", 4)
    _assert_same(_smooth((23, 31)), 0.0, device)


@pytest.mark.parametrize("capacity", [0, 1, 20])
def test_overflow_is_counted_and_the_first_are_kept(capacity: int, device: str) -> None:
    cells = _smooth((20, 40))
    expected_points, expected_scores = reference.find_peaks(cells, 0.0)
    assert len(expected_scores) > 40
    points, scores, total = _find(cells, 0.0, device, capacity)
    assert total.tolist() == [len(expected_scores)]
    assert np.array_equal(points, expected_points[:capacity])
    assert np.array_equal(scores, expected_scores[:capacity])


def test_overflow_writes_nothing_behind_the_buffers(device: str) -> None:
    heatmap = torch.from_numpy(_smooth((20, 40))).to(device)
    threshold = torch.zeros(1, device=device)
    counts = torch.empty(4, dtype=torch.int32, device=device)
    points, scores, total = (
        torch.empty((99, 2), device=device),
        torch.empty(99, device=device),
        torch.empty_like(counts),
    )
    module.count_peaks[(4,)](heatmap, threshold, counts, 20, 40, **module.BLOCKS, **module.OPTIONS)
    module.write_peaks[(4,)](
        heatmap, threshold, counts, points, scores, total, 20, 40, 5, **module.BLOCKS, **module.SUMMED, **module.OPTIONS
    )
    assert int(total[0]) == int(counts.sum()) > 40
    for written in (points, scores):
        assert not written[:5].isnan().any()
        assert written[5:].isnan().all()


def test_threshold_is_inclusive(device: str) -> None:
    cells = np.array([[0.25]], np.float32)
    assert _find(cells, 0.25, device)[2].tolist() == [1]
    assert _find(cells, float(np.nextafter(np.float32(0.25), np.float32(1))), device)[2].tolist() == [0]


def test_empty(device: str) -> None:
    points, scores, total = _find(np.zeros((0, 5), np.float32), 0.0, device, capacity=3)
    assert (points.shape, scores.shape, total.tolist()) == ((3, 2), (3,), [0])


def test_rejects(device: str) -> None:
    heatmap, threshold = torch.zeros((4, 6), device=device), torch.zeros(1, device=device)
    with pytest.raises(ValueError, match="heatmap must be contiguous float32"):
        find_peaks(heatmap.T, threshold, 5)
    with pytest.raises(ValueError, match="heatmap must be contiguous float32"):
        find_peaks(heatmap.double(), threshold, 5)
    with pytest.raises(ValueError, match=r"threshold must be float32 \[1\]"):
        find_peaks(heatmap, threshold.double(), 5)
    with pytest.raises(ValueError, match="capacity -1 is out of range"):
        find_peaks(heatmap, threshold, -1)
