"""Two evaluations of the same pictures, compared picture by picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import ConfigError
from engine.evaluation.evaluate import Row

_HEADER = ("part", "images", "MAE before", "MAE now", "change", "+-", "better", "worse")


@dataclass(frozen=True)
class Paired:
    """How the absolute count errors of a group of pictures changed.

    Attributes:
        before, now: mean absolute errors, in people.
        change: mean of the pictures' differences, now - before; below 0 is better.
        error: standard error of ``change``; NaN of a single picture.
        better, worse: pictures whose error became smaller, or larger.
    """

    part: str
    images: int
    before: float
    now: float
    change: float
    error: float
    better: int
    worse: int

    def __str__(self) -> str:
        figures = f"{self.before:>11.2f}{self.now:>9.2f}{self.change:>+9.2f}{self.error:>7.2f}"
        return f"{self.part:<24}{self.images:>7}{figures}{self.better:>8}{self.worse:>7}"


def read_rows(file: str | Path) -> list[Row]:
    """The rows that ``crowd eval --json`` wrote.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    try:
        return [Row.from_dict(entry) for entry in json.loads(Path(file).read_text(encoding="utf-8"))]
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{file} does not hold rows of crowd eval --json ({type(error).__name__}: {error}); write them anew"
        ) from error


def compare(before: Iterable[Row], now: Iterable[Row]) -> list[Paired]:
    """Each part's change, then that of all parts together where there are several; for each number of steps.

    The error of a mean over thirty pictures says little, as pictures differ far more than two models do; the mean of
    the differences on the same pictures says much more.

    Raises:
        ConfigError: no picture is in both; or one is in ``before`` more than once, or has another true count there.
    """
    known: dict[tuple[str, int | None], Row] = {}
    for row in before:
        if known.setdefault(_key(row), row) is not row:
            raise ConfigError(f"the earlier evaluation has {row.file} with steps {row.steps} more than once")
    pairs = [(known[_key(row)], row) for row in now if _key(row) in known]
    if not pairs:
        raise ConfigError("the two evaluations have no picture in common, counted with the same --steps")
    for old, new in pairs:
        if old.true != new.true:
            raise ConfigError(f"{new.file} has {new.true} people now and {old.true} in the earlier evaluation")
    numbers = dict.fromkeys(new.steps for _, new in pairs)
    groups = []
    for steps in numbers:
        label = "" if len(numbers) == 1 else f", {steps} steps"
        chosen = [pair for pair in pairs if pair[1].steps == steps]
        parts = sorted({new.part for _, new in chosen})
        groups += [_paired(part + label, [pair for pair in chosen if pair[1].part == part]) for part in parts]
        if len(parts) > 1:
            groups.append(_paired("all" + label, chosen))
    return groups


def table(groups: Sequence[Paired]) -> str:
    """The groups as text, one line each."""
    widths = (24, 7, 11, 9, 9, 7, 8, 7)
    head = "".join(
        x.rjust(width) if i else x.ljust(width) for i, (x, width) in enumerate(zip(_HEADER, widths, strict=True))
    )
    return "\n".join([head, *map(str, groups)])


def _key(row: Row) -> tuple[str, int | None]:
    # The data may lie in another folder by now; parts keep pictures of one name apart.
    return f"{row.part}/{Path(row.file).name}", row.steps


def _paired(part: str, pairs: Sequence[tuple[Row, Row]]) -> Paired:
    old, new = (np.array([abs(row.predicted - row.true) for row in rows], float) for rows in zip(*pairs, strict=True))
    change = new - old
    error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else float("nan")
    better, worse = int((change < 0).sum()), int((change > 0).sum())
    return Paired(part, len(pairs), float(old.mean()), float(new.mean()), float(change.mean()), error, better, worse)
