"""Scores against brute force and hand-computed cases; evaluation with a counter whose answers are known."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.dataset.samples import Sample
from engine.evaluation.evaluate import RADII, Row, evaluate
from engine.evaluation.metrics import (
    bootstrap_error,
    count_errors,
    localization_scores,
    match_points,
    uncertainty_rank_correlation,
)


def most_pairs(true: np.ndarray, predicted: np.ndarray, radius: float) -> int:
    """The best assignment of the smaller set to the larger one, by trying all."""
    if len(true) > len(predicted):
        true, predicted = predicted, true
    return max(
        sum(math.dist(t, predicted[j]) <= radius for t, j in zip(true, order, strict=True))
        for order in itertools.permutations(range(len(predicted)), len(true))
    )


@pytest.mark.parametrize("sizes", [(1, 1), (1, 5), (4, 3), (5, 6), (6, 2), (6, 6)])
@pytest.mark.parametrize("seed", range(5))
def test_matching_is_as_large_as_the_best_of_all_assignments(sizes, seed):
    rng = np.random.default_rng((seed, *sizes))
    true, predicted = (rng.uniform(0, 12, (n, 2)).astype(np.float32) for n in sizes)
    for radius in (1.0, 4.0, 8.0, 30.0):
        assert match_points(true, predicted, radius) == most_pairs(true, predicted, radius)


def test_matching_reassigns_a_greedy_choice():
    # Nearest first would pair 1.0 with 1.5 and leave 0.0 and 4.5 alone.
    true, predicted = np.array([[0.0, 0], [3.0, 0]]), np.array([[1.5, 0], [4.5, 0]])
    assert match_points(true, predicted, 1.5) == 2
    true, predicted = np.array([[1.0, 0], [0.0, 0]]), np.array([[0.9, 0], [2.5, 0]])
    assert match_points(true, predicted, 1.5) == 2


def test_a_point_is_matched_once_and_the_radius_is_inclusive():
    assert match_points(np.zeros((3, 2)), np.zeros((1, 2)), 8) == 1
    assert match_points(np.zeros((3, 2)), np.zeros((5, 2)), 8) == 3
    assert match_points(np.array([[0.0, 0]]), np.array([[3.0, 4]]), 5) == 1
    assert match_points(np.array([[0.0, 0]]), np.array([[3.0, 4]]), 4.999) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_matches_nothing(n, m):
    assert match_points(np.zeros((n, 2)), np.zeros((m, 2)), 8) == 0


def test_count_errors_by_hand():
    scores = count_errors([100, 10, 0], [90, 14, 2])
    assert scores.mae == pytest.approx(16 / 3)
    assert scores.rmse == pytest.approx(math.sqrt((100 + 16 + 4) / 3))
    assert scores.bias == pytest.approx(-4 / 3)


@pytest.mark.parametrize("counts", [([], []), ([[1]], [[2]])])
def test_count_errors_refuse_what_has_no_mean(counts):
    with pytest.raises(ValueError, match="at least one count"):
        count_errors(*counts)


def test_localization_scores_by_hand_and_without_points():
    scores = localization_scores(matched=3, true=4, predicted=6)
    assert (scores.precision, scores.recall) == (0.5, 0.75)
    assert scores.f1 == pytest.approx(2 * 0.5 * 0.75 / (0.5 + 0.75))
    nobody = localization_scores(matched=0, true=0, predicted=2)
    assert nobody.precision == 0
    assert math.isnan(nobody.recall)
    assert nobody.f1 == 0
    assert all(math.isnan(x) for x in vars(localization_scores(0, 0, 0)).values())


def test_bootstrap_error_agrees_with_the_formula_for_a_mean():
    values = np.random.default_rng(0).exponential(10, 200)
    # Its own relative error over 1,000 draws is 1 / sqrt(2,000) = 2.2 %.
    assert bootstrap_error(values) == pytest.approx(values.std() / math.sqrt(200), rel=0.1)
    assert bootstrap_error([5.0, 5.0]) == 0


def test_uncertainty_is_ranked_against_errors_by_hand():
    # 2 x 2 blocks of 64 px, the right and lower ones cut off. Errors: 2, 0, 1, 0, ranks 4, 1.5, 3, 1.5.
    true = np.float32([[10, 10], [20, 20], [99, 10], [5, 70]])
    predicted = np.float32([[70, 5]])
    uncertainty = np.zeros((10, 10), np.float32)
    uncertainty[0, 0], uncertainty[0, 9], uncertainty[9, 0] = 0.9, 0.1, 0.5
    # Ranks 4, 2, 3, 1: Spearman is the correlation of the ranks.
    expected = np.corrcoef([4, 1.5, 3, 1.5], [4, 2, 3, 1])[0, 1]
    found = uncertainty_rank_correlation(uncertainty, true, predicted, (100, 100))
    assert found == pytest.approx(expected)
    assert uncertainty_rank_correlation(-uncertainty, true, predicted, (100, 100)) == pytest.approx(-expected)


@pytest.mark.parametrize(("level", "heads"), [(0.0, [[10, 10]]), (0.5, np.zeros((0, 2)))])
def test_a_ranking_without_differences_is_undefined(level, heads):
    uncertainty = np.full((20, 20), level, np.float32)
    uncertainty[0, 0] += level
    true = np.float32(heads)
    assert math.isnan(uncertainty_rank_correlation(uncertainty, true, true[:0], (160, 160)))


class CounterFromTable:
    """Answers with the points and the interval it was given for each file; steps shift the interval."""

    def __init__(self, answers: dict[str, tuple[np.ndarray, tuple[int, int]]]):
        self.answers = answers
        self.asked: list[tuple[str, int | None]] = []

    def count(self, img, *, steps=None):
        self.asked.append((img.name, steps))
        points, interval = self.answers[img.name]
        uncertainty = np.float32([[0.2, 0.4, 0.3]])
        return SimpleNamespace(
            count=len(points), points=points, interval=interval, uncertainty=uncertainty, image_size=(192, 64)
        )


@pytest.fixture
def evaluation_case():
    grid = np.float32([[0, 0], [50, 0], [100, 0], [150, 0]])
    samples = [
        Sample(Path("a.jpg"), grid, "part_A"),
        Sample(Path("b.jpg"), grid[:2], "part_A"),
        Sample(Path("c.jpg"), np.zeros((0, 2), np.float32), "part_B"),
    ]
    answers = {
        "a.jpg": (grid[:3] + np.float32([5, 0]), (2, 4)),
        "b.jpg": (np.concatenate([grid[:2] + np.float32([3, 0]), grid[3:]]), (3, 5)),
        "c.jpg": (np.zeros((0, 2), np.float32), (0, 0)),
    }
    return CounterFromTable(answers), samples


def test_evaluation_by_hand(evaluation_case):
    counter, samples = evaluation_case
    a, b, total = evaluate(counter, samples, progress=False).scores()
    assert (a.part, a.images, b.part, b.images, total.part, total.images) == ("part_A", 2, "part_B", 1, "all", 3)
    assert (a.counts.mae, a.counts.bias, total.counts.mae) == (1.0, 0.0, pytest.approx(2 / 3))
    # A's true counts are 4 and 2: their mean misses each by 1; with 0 the mean is 2 and misses by 2, 0, 2.
    assert (a.mean_predictor_mae, total.mean_predictor_mae) == (1.0, pytest.approx(4 / 3))
    assert (a.coverage, b.coverage) == (0.5, 1.0)
    # Shifted by 5 px all three of a.jpg miss at 4 px; by 3 px both of b.jpg hit; its third head is nobody's.
    at_4, at_8 = a.localization
    assert (at_4.precision, at_4.recall) == (2 / 6, 2 / 6)
    assert (at_8.precision, at_8.recall) == (5 / 6, 5 / 6)
    assert RADII == (4, 8)
    # a.jpg misses a head in the third block of 64 px, and b.jpg finds one too many there: errors 0, 0, 1, so their
    # ranks are 1.5, 1.5, 3 against 1, 3, 2 of the uncertainty.
    assert (a.ranking, b.ranking) == (pytest.approx(0.0), pytest.approx(math.nan, nan_ok=True))


def test_steps_make_groups_of_their_own(evaluation_case):
    counter, samples = evaluation_case
    evaluation = evaluate(counter, samples[:2], steps=(1, 3), progress=False)
    assert counter.asked == [("a.jpg", 1), ("b.jpg", 1), ("a.jpg", 3), ("b.jpg", 3)]
    assert [(s.part, s.steps) for s in evaluation.scores()] == [("part_A", 1), ("part_A", 3)]


def test_table_lines_up_and_shows_undefined_scores(evaluation_case):
    counter, samples = evaluation_case
    lines = evaluate(counter, samples, progress=False).table().splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split()[:4] == ["part", "steps", "images", "MAE"]
    assert lines[1].split()[:4] == ["part_A", "default", "2", "1.00"]
    assert lines[2].split().count("-") == 7


def test_rows_for_json():
    written = Row("x.jpg", "p", 2, 5, 6, 4, 7, (3, 5), 0.25).to_dict()
    assert written["matched"] == {"4": 3, "8": 5}
    assert written["ranking"] is None
    assert {k: written[k] for k in ("file", "part", "true", "predicted", "low", "high")} == {
        "file": "x.jpg",
        "part": "p",
        "true": 5,
        "predicted": 6,
        "low": 4,
        "high": 7,
    }


def test_splits_of_a_part_are_apart_and_then_together(evaluation_case):
    counter, samples = evaluation_case
    samples = [
        Sample(s.image, s.points, "photos", split) for s, split in zip(samples, ("val", "test", "val"), strict=True)
    ]
    evaluation = evaluate(counter, samples, progress=False)
    assert [row.split for row in evaluation.rows] == ["val", "test", "val"]
    assert [(g.part, g.split, g.images) for g in evaluation.scores()] == [
        ("photos", "test", 1), ("photos", "val", 2), ("all", None, 3),
    ]  # fmt: skip
    assert [line[:12].strip() for line in evaluation.table().splitlines()] == [
        "part",
        "photos, test",
        "photos, val",
        "all",
    ]
    (one,) = evaluate(counter, samples[:1], progress=False).scores()
    assert (one.part, one.split) == ("photos", None)
