"""Scores of counts and of head positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

# Pixels per side of the blocks in which uncertainty and error are compared.
_BLOCK = 64


@dataclass(frozen=True)
class CountScores:
    """Mean absolute error, root of the mean squared error, and mean of predicted - true; in people."""

    mae: float
    rmse: float
    bias: float


@dataclass(frozen=True)
class LocalizationScores:
    """Shares in [0, 1]; NaN where nothing was predicted (precision), nothing was there (recall), or neither (f1)."""

    precision: float
    recall: float
    f1: float


def count_errors(true: ArrayLike, predicted: ArrayLike) -> CountScores:
    """Errors of predicted counts.

    Args:
        true, predicted: [N] people in each picture, N >= 1.

    >>> count_errors([10, 20], [13, 16])
    CountScores(mae=3.5, rmse=3.5355339059327378, bias=-0.5)
    """
    difference = np.asarray(predicted, np.float64) - np.asarray(true, np.float64)
    if difference.ndim != 1 or not difference.size:
        raise ValueError(f"true and predicted must be two lists of at least one count, got shape {difference.shape}")
    return CountScores(
        mae=float(np.abs(difference).mean()),
        rmse=float(np.sqrt(np.square(difference).mean())),
        bias=float(difference.mean()),
    )


def match_points(true: np.ndarray, predicted: np.ndarray, radius: float) -> int:
    """The most pairs (true, predicted) no further apart than ``radius``, each point used at most once.

    Args:
        true: [N, 2], (x, y) in pixels.
        predicted: [M, 2], likewise.
        radius: in pixels, inclusive.

    Returns:
        The number of pairs: true positives.

    A maximum-cardinality matching (Hopcroft-Karp) is what this number means. The Hungarian method
    minimises total distance instead, needs made-up costs for pairs beyond the radius, and takes
    O(N^3) on a dense matrix; here only pairs within reach exist, found by a k-d tree.

    >>> match_points(np.array([[0, 0], [3, 0]]), np.array([[2, 0], [5, 0], [90, 90]]), 2.0)
    2
    """
    if not len(true) or not len(predicted):
        return 0
    near = cKDTree(true).query_ball_tree(cKDTree(predicted), radius)
    starts = np.cumsum([0, *(len(n) for n in near)])
    columns = np.array([j for n in near for j in n], np.int32)
    graph = csr_array((np.ones(len(columns), np.int8), columns, starts), shape=(len(true), len(predicted)))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def localization_scores(matched: int, true: int, predicted: int) -> LocalizationScores:
    """Precision, recall and F1 from numbers of points, summed over a set if the scores are to be pooled.

    >>> localization_scores(matched=6, true=8, predicted=12)
    LocalizationScores(precision=0.5, recall=0.75, f1=0.6)
    """
    return LocalizationScores(_share(matched, predicted), _share(matched, true), _share(2 * matched, true + predicted))


def uncertainty_rank_correlation(
    uncertainty: np.ndarray, true: np.ndarray, predicted: np.ndarray, size: tuple[int, int]
) -> float:
    """Spearman's rank correlation of uncertainty and error over the blocks of one picture.

    They have sides of 64 pixels; those at the right and bottom edge may be smaller.

    Args:
        uncertainty: [h, w], of any resolution.
        true, predicted: [N, 2] and [M, 2], (x, y) of heads in pixels.
        size: (width, height) of the picture in pixels.

    Returns:
        Of the sums of ``uncertainty`` in the blocks and |predicted - true| heads there: 1 if the map ranks the
        blocks as their errors do, 0 if it knows nothing of them; NaN where either is the same in all blocks.
    """
    width, height = size
    columns, rows = -(-width // _BLOCK), -(-height // _BLOCK)

    def sums(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        column = np.clip((x // _BLOCK).astype(np.int64), 0, columns - 1)
        row = np.clip((y // _BLOCK).astype(np.int64), 0, rows - 1)
        return np.bincount(row * columns + column, weights, columns * rows)

    h, w = uncertainty.shape
    y, x = np.mgrid[:h, :w]
    doubt = sums(((x + 0.5) * width / w).ravel(), ((y + 0.5) * height / h).ravel(), uncertainty.ravel())
    error = np.abs(sums(*np.reshape(predicted, (-1, 2)).T) - sums(*np.reshape(true, (-1, 2)).T))
    if not np.ptp(doubt) or not np.ptp(error):
        return math.nan
    return float(spearmanr(doubt, error).statistic)


def bootstrap_error(values: ArrayLike) -> float:
    """Standard error of the mean of ``values`` [N], from 1000 resamplings with replacement."""
    sample = np.asarray(values, np.float64)
    rng = np.random.default_rng(0)
    return float(np.std([rng.choice(sample, sample.size).mean() for _ in range(1000)]))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
