"""Evaluation of a counter on annotated pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from tqdm import tqdm

from engine.dataset.entry import as_number, get
from engine.dataset.samples import Sample
from engine.evaluation.metrics import (
    CountScores,
    LocalizationScores,
    bootstrap_error,
    count_errors,
    localization_scores,
    match_points,
    uncertainty_rank_correlation,
)
from engine.system.text import aligned

if TYPE_CHECKING:
    from engine.result import CountResult

# Pixels within which a predicted head is right; the two that are usual for ShanghaiTech.
RADII = (4, 8)


class Counter(Protocol):
    """What is evaluated: an ``engine.CrowdCounter``, or anything that counts like it."""

    def count(self, img: Any, *, steps: int | None = None) -> CountResult:
        """Count the people in one picture."""


@dataclass(frozen=True)
class Row:
    """One picture at one number of steps.

    Attributes:
        steps: as asked for; None is the model's own default.
        true, predicted, low, high: people, and the interval of the prediction.
        matched: predicted heads that are right, for each of :data:`RADII`.
        seconds: time of the count, decoding included.
        ranking: how well the uncertainty map ranks the errors (:func:`uncertainty_rank_correlation`); may be NaN.
        split: "train", "val" or "test"; empty in files of versions that did not write it.
    """

    file: str
    part: str
    steps: int | None
    true: int
    predicted: int
    low: int
    high: int
    matched: tuple[int, ...]
    seconds: float
    ranking: float = math.nan
    split: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN: a ranking of NaN is None; ``matched`` is keyed by radius."""
        ranking = None if math.isnan(self.ranking) else self.ranking
        return asdict(self) | {"matched": dict(zip(map(str, RADII), self.matched, strict=True)), "ranking": ranking}

    @classmethod
    def from_dict(cls, data: Any) -> Row:
        """What :meth:`to_dict` was made of.

        Raises:
            ConfigError: something is missing, or of another type.
        """
        numbers = {key: _whole(data, key) for key in ("true", "predicted", "low", "high")}
        matched = get(data, "matched", dict, "a row")
        ranking = data.get("ranking")
        return cls(
            file=get(data, "file", str, "a row"),
            part=get(data, "part", str, "a row"),
            steps=None if data.get("steps") is None else _whole(data, "steps"),
            matched=tuple(_whole(matched, str(radius)) for radius in RADII),
            seconds=as_number(data.get("seconds"), "'seconds'"),
            ranking=math.nan if ranking is None else as_number(ranking, "'ranking'"),
            split=get({"split": "", **data}, "split", str, "a row"),
            **numbers,
        )


def _whole(data: Any, key: str) -> int:
    number: int = get(data, key, int, "a row")
    return number


@dataclass(frozen=True)
class GroupScores:
    """Scores of a part of the data set, or of all of it, at one number of steps.

    Attributes:
        split: of all its pictures, where the rows are of several; else None.
        mae_error: bootstrap standard error of ``counts.mae``.
        mean_predictor_mae: of answering the group's mean true count every time; for scale.
        localization: for each of :data:`RADII`, pooled over the group.
        coverage: share of pictures whose true count is within the interval.
        seconds: mean time of a count.
        ranking: mean rank correlation of uncertainty and error in 64-pixel blocks, over pictures that have one.
    """

    part: str
    split: str | None
    steps: int | None
    images: int
    counts: CountScores
    mae_error: float
    mean_predictor_mae: float
    localization: tuple[LocalizationScores, ...]
    coverage: float
    seconds: float
    ranking: float


@dataclass(frozen=True)
class Evaluation:
    """All rows of an evaluation, in the order they were counted."""

    rows: tuple[Row, ...]

    def scores(self) -> list[GroupScores]:
        """Scores per number of steps: each part and split, then all together where there are several."""
        groups = []
        for steps in dict.fromkeys(row.steps for row in self.rows):
            rows = [row for row in self.rows if row.steps == steps]
            parts = by_part(rows)
            groups += [_score(chosen, part, split) for (part, split), chosen in parts.items()]
            if len(parts) > 1:
                groups.append(_score(rows, "all", None))
        return groups

    def table(self) -> str:
        """The scores as text, one line per group."""
        return "\n".join(aligned([_HEADER, *map(_cells, self.scores())]))


def by_part(rows: Sequence[Row]) -> dict[tuple[str, str | None], list[Row]]:
    """The rows of each part and split, in their order; where all are of one split, it is None."""
    several = len({row.split for row in rows}) > 1
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.part, row.split)):
        groups.setdefault((row.part, row.split if several else None), []).append(row)
    return groups


def part_label(part: str, split: str | None) -> str:
    """What a table calls a part, or a split of it."""
    return part if split is None else f"{part}, {split or 'unknown split'}"


def evaluate(
    counter: Counter,
    samples: Sequence[Sample],
    steps: Sequence[int | None] = (None,),
    progress: bool = True,
    done: Iterable[Row] = (),
    keep: Callable[[Row], None] = lambda row: None,
) -> Evaluation:
    """Count every picture once per number of ``steps`` and compare with its points.

    Args:
        counter: see :class:`Counter`.
        samples: pictures and their points, at least one.
        steps: numbers of denoising steps; None is the model's own default.
        progress: show a bar on stderr.
        done: rows of an earlier run, which are taken over: their pictures are not counted again.
        keep: gets each new row, as it comes.

    Raises:
        ImageError: a picture cannot be read; scores over part of a set would not be comparable.
    """
    rows = {(row.steps, row.file): row for row in done}
    todo = [(number, sample) for number in steps for sample in samples]
    left = [item for item in todo if (item[0], str(item[1].image)) not in rows]
    bar = tqdm(
        left,
        total=len(todo),
        desc="eval",
        initial=len(todo) - len(left),
        unit="image",
        disable=not progress,
        leave=False,
    )
    for number, sample in bar:
        row = _count_one(counter, sample, number)
        rows[number, row.file] = row
        keep(row)
    return Evaluation(tuple(rows[number, str(sample.image)] for number, sample in todo))


def _count_one(counter: Counter, sample: Sample, steps: int | None) -> Row:
    start = time.perf_counter()
    result = counter.count(sample.image, steps=steps)
    seconds = time.perf_counter() - start
    return Row(
        file=str(sample.image),
        part=sample.part,
        steps=steps,
        true=len(sample.points),
        predicted=int(result.count),
        low=int(result.interval[0]),
        high=int(result.interval[1]),
        matched=tuple(match_points(sample.points, result.points, radius) for radius in RADII),
        seconds=seconds,
        ranking=uncertainty_rank_correlation(result.uncertainty, sample.points, result.points, result.image_size),
        split=sample.split,
    )


def _score(rows: Sequence[Row], part: str, split: str | None) -> GroupScores:
    true, predicted = np.array([r.true for r in rows]), np.array([r.predicted for r in rows])
    return GroupScores(
        part=part,
        split=split,
        steps=rows[0].steps,
        images=len(rows),
        counts=count_errors(true, predicted),
        mae_error=bootstrap_error(np.abs(predicted - true)),
        mean_predictor_mae=float(np.abs(true - true.mean()).mean()),
        localization=tuple(
            localization_scores(sum(r.matched[i] for r in rows), int(true.sum()), int(predicted.sum()))
            for i in range(len(RADII))
        ),
        coverage=float(np.mean([r.low <= r.true <= r.high for r in rows])),
        seconds=float(np.mean([r.seconds for r in rows])),
        ranking=_mean([r.ranking for r in rows]),
    )


_HEADER = [
    *("part", "steps", "images", "MAE", "+-", "RMSE", "bias", "MAE of mean"),
    *(f"{score}@{radius}px" for radius in RADII for score in ("P", "R", "F1")),
    *("in interval", "rank corr.", "s/image"),
]


def _cells(group: GroupScores) -> list[str]:
    places = [_percent(x) for s in group.localization for x in (s.precision, s.recall, s.f1)]
    return [
        part_label(group.part, group.split),
        "default" if group.steps is None else str(group.steps),
        str(group.images),
        f"{group.counts.mae:.2f}",
        f"{group.mae_error:.2f}",
        f"{group.counts.rmse:.2f}",
        f"{group.counts.bias:+.2f}",
        f"{group.mean_predictor_mae:.2f}",
        *places,
        _percent(group.coverage),
        "-" if np.isnan(group.ranking) else f"{group.ranking:.2f}",
        f"{group.seconds:.3f}",
    ]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}%"
