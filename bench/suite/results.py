"""The rows of a run, and their files: JSON with everything, CSV of the rows."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from engine.cli.timing import Timing

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One measured figure; what does not apply is None.

    Attributes:
        group: what was computed, such as "criss_cross_attention" or "count".
        case: of which shape, in words.
        way: how, such as "openvino bfloat16".
        unit: of the percentiles: "ms", "MB", "GFLOP/s", "GB/s", or "" for a fitted exponent.
        p20, p50, p80: over the rounds.
        noise: how much the figure varied by itself, as a share; see :class:`engine.cli.timing.Timing`.
        width, height, steps, batch, threads, people: of the case.
        gflops, gbps, roof: GFLOP/s, GB/s, and the share in per cent of what this machine could do at most.
        count: people found, before it was timed.
        mae_a, mae_b: mean absolute error on ShanghaiTech's parts; of others as published, of ours as measured.
        split: the pictures that ours were measured on: "test" or "held-out" (training pictures kept out of training).
    """

    group: str
    case: str
    way: str
    unit: str
    p20: float
    p50: float
    p80: float
    rounds: int
    noise: float
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    batch: int | None = None
    threads: int | None = None
    people: int | None = None
    gflops: float | None = None
    gbps: float | None = None
    roof: float | None = None
    count: int | None = None
    mae_a: float | None = None
    mae_b: float | None = None
    split: str | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What two runs have in common of the same figure."""
        return self.group, self.case, self.way, self.unit


def timed_row(group: str, case: str, way: str, timing: Timing, **columns: Any) -> Row:
    """The row of a timing, in milliseconds."""
    p20, p50, p80 = (timing.percentile(share) for share in (20, 50, 80))
    return Row(group, case, way, "ms", p20, p50, p80, len(timing.samples), timing.noise, **columns)


def plain_row(group: str, case: str, way: str, unit: str, value: float, **columns: Any) -> Row:
    """The row of something that is no time, or was measured once."""
    return Row(group, case, way, unit, value, value, value, 1, 0.0, **columns)


@dataclass
class Results:
    """A whole run.

    Attributes:
        machine: commit, hardware and versions; see :func:`suite.machine.describe`.
        quick: it was made for its checks alone, so that its times mean nothing.
        rows: in the order in which they were measured.
        anchors: milliseconds of one fixed computation, repeated throughout the run.
        left_out: why, by "group: way", for what could not run here.
        refused: likewise, for what was wrong.
    """

    machine: Mapping[str, Any]
    quick: bool
    rows: list[Row] = field(default_factory=list)
    anchors: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def drift(self) -> float:
        """How much the machine's own speed varied during the run: the 10th to 90th percentile of the anchors."""
        if len(self.anchors) < 2:
            return 0.0
        low, middle, high = np.percentile(self.anchors, [10, 50, 90])
        return float((high - low) / middle)

    def find(self, group: str, **columns: Any) -> list[Row]:
        """Rows of a group whose columns have these values."""
        wanted = columns.items()
        return [row for row in self.rows if row.group == group and all(getattr(row, k) == v for k, v in wanted)]


def write(results: Results, path: Path) -> None:
    """Write ``path`` (JSON) and, beside it, the rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = {name: _without_folders(getattr(results, name)) for name in ("left_out", "refused")}
    rows = [{key: _short(value) for key, value in asdict(row).items() if value is not None} for row in results.rows]
    anchors = [_short(value) for value in results.anchors]
    data = {"format": FORMAT, **asdict(results), **reasons, "rows": rows, "anchors": anchors}
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    with open(path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        file.write(f"# {json.dumps(results.machine)}\n")
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> Results:
    """Read what :func:`write` wrote.

    Raises:
        ValueError: it is no such file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise ValueError("of another format")
        return Results(**{**data, "rows": _rows(data["rows"])})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no result file of this suite ({error}); make one with python bench/run.py"
        ) from None


def _rows(entries: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [Row(**entry) for entry in entries]


def _without_folders(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons that name files of this machine by their last part alone: results are published."""
    return {name: re.sub(r"(?<![\w./])/(?:[\w.@+-]+/)+", "", reason) for name, reason in reasons.items()}


def _short(value: Any) -> Any:
    """Four significant digits, more than any timing has."""
    return float(f"{value:.4g}") if isinstance(value, float) else value
