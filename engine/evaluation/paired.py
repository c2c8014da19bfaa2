"""Two evaluations of the same pictures, compared picture by picture."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.evaluation.evaluate import Row, by_part, part_label

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
        entries = json.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _no_rows(file, f"{type(error).__name__}: {error}") from error
    if not isinstance(entries, list):
        raise _no_rows(file, "it is no list")
    rows = []
    for number, entry in enumerate(entries):
        try:
            rows.append(Row.from_dict(entry))
        except ConfigError as error:
            raise _no_rows(file, f"[{number}]: {error}") from error
    return rows


def _no_rows(file: str | Path, problem: str) -> ConfigError:
    return ConfigError(f"{file} does not hold rows of crowd eval --json ({problem}); write them anew")


def check_comparable(before: Iterable[Row], samples: Iterable[Sample], steps: Iterable[int | None]) -> None:
    """Refuse before anything is counted what :func:`compare` would refuse after it.

    Raises:
        ConfigError: as :func:`compare`.
    """
    now = [(sample, number) for sample in samples for number in steps]
    compare(before, [Row(str(s.image), s.part, n, len(s.points), 0, 0, 0, (), 0.0, split=s.split) for s, n in now])


def compare(before: Iterable[Row], now: Iterable[Row]) -> list[Paired]:
    """Each part's change, then that of all parts together where there are several; for each number of steps.

    The error of a mean over thirty pictures says little, as pictures differ far more than two models do; the mean of
    the differences on the same pictures says much more.

    Raises:
        ConfigError: no picture is in both; or one is in ``before`` more than once, or has another true count there.
    """
    pairs = _pairs(list(before), list(now))
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
        earlier = {id(new): old for old, new in chosen}
        parts = by_part([new for _, new in chosen])
        for (part, split), rows in parts.items():
            groups.append(_paired(part_label(part, split) + label, [(earlier[id(new)], new) for new in rows]))
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


def _pairs(before: Sequence[Row], now: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Rows of the same picture and steps.

    The data may lie in another folder by now, and either evaluation may be of a part of it. So where no path is in
    both, pictures are the same whose paths are the same below the folder that all of an evaluation have in common, or
    below that of one of them and a folder above that of the other: whichever has the most pictures in common.
    """
    old, new = ([PurePosixPath(_full(row.file)).parts for row in rows] for rows in (before, now))
    cuts = [(0, 0)]
    if not set(old) & set(new):
        ends = _depth(old), _depth(new)
        cuts = [(ends[0] - up, ends[1]) for up in range(ends[0] + 1)]
        cuts += [(ends[0], ends[1] - up) for up in range(1, ends[1] + 1)]
    return max((_pairs_below(cut, (before, old), (now, new)) for cut in cuts), key=len)


def _pairs_below(
    cut: tuple[int, int],
    before: tuple[Sequence[Row], Sequence[tuple[str, ...]]],
    now: tuple[Sequence[Row], Sequence[tuple[str, ...]]],
) -> list[tuple[Row, Row]]:
    """Rows whose paths are the same without as many folders at the beginning as ``cut`` says."""
    known: dict[tuple[tuple[str, ...], int | None], Row] = {}
    for row, parts in zip(*before, strict=True):
        if known.setdefault((parts[cut[0] :], row.steps), row) is not row:
            raise ConfigError(f"the earlier evaluation has {row.file} with steps {row.steps} more than once")
    keys = [((parts[cut[1] :], row.steps), row) for row, parts in zip(*now, strict=True)]
    return [(known[key], row) for key, row in keys if key in known]


def _full(file: str) -> str:
    """The path with forward slashes, of a file that another system may have written."""
    path = file.replace("\\", "/")
    return path if re.match(r"[a-zA-Z]:/", path) else os.path.abspath(path).replace("\\", "/")


def _depth(paths: Sequence[tuple[str, ...]]) -> int:
    """How many folders all paths have in common at their beginning."""
    if not paths:
        return 0
    first, last = min(paths), max(paths)
    limit = min(map(len, paths)) - 1
    return next((i for i in range(limit) if first[i] != last[i]), limit)


def _paired(part: str, pairs: Sequence[tuple[Row, Row]]) -> Paired:
    old, new = (np.array([abs(row.predicted - row.true) for row in rows], float) for rows in zip(*pairs, strict=True))
    change = new - old
    error = float(change.std(ddof=1) / np.sqrt(len(change))) if len(change) > 1 else float("nan")
    better, worse = int((change < 0).sum()), int((change > 0).sum())
    return Paired(part, len(pairs), float(old.mean()), float(new.mean()), float(change.mean()), error, better, worse)
