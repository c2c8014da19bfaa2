"""Our own errors on ShanghaiTech: measured by ``crowd eval --json``, or on the test split, where those are known."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.bundle.bundle import Bundle
from engine.evaluation.metrics import bootstrap_error, count_errors
from suite.results import Row

# Summary of the last evaluation, beside the result files.
FILE = Path(__file__).parents[1] / "results" / "accuracy.json"

# Where errors come from: the test split, measured once after the weights were chosen, or held-out training pictures.
TEST, HELD_OUT = "test", "held-out"
# The keys of a file that they stand under, the first that is there being taken: "steps" has those of the counting rule
# that is shipped, which was fitted to these pictures; "cross_validated" those of rules fitted to others of them.
_SOURCES = {"test": TEST, "cross_validated": HELD_OUT, "steps": HELD_OUT}
_UNKNOWN = {"mae_a": None, "mae_b": None, "split": None}

# Group of the rows that hold crowd counters beside each other, ours by number of steps.
PEERS = "crowd counter"


def summarise(rows: list[dict[str, Any]], bundle: Bundle) -> dict[str, Any]:
    """Mean absolute errors from the rows of ``crowd eval --json``, without the names of pictures.

    Returns:
        ``{"model": digest, "name": ..., "steps": {"3": {"A": {"mae": ..., "error": ..., "images": ...}}}}``; ``error``
        is the bootstrap standard error.
    """
    steps: dict[str, dict[str, Any]] = {}
    for number in sorted({row["steps"] or bundle.default_steps for row in rows}):
        mine = [row for row in rows if (row["steps"] or bundle.default_steps) == number]
        for part in sorted({_letter(row["part"]) for row in mine}):
            chosen = [row for row in mine if _letter(row["part"]) == part]
            true, predicted = ([row[key] for row in chosen] for key in ("true", "predicted"))
            errors = [abs(a - b) for a, b in zip(true, predicted, strict=True)]
            steps.setdefault(str(number), {})[part] = {
                "mae": round(count_errors(true, predicted).mae, 2),
                "error": round(bootstrap_error(errors), 2),
                "images": len(errors),
            }
    return {"model": bundle.digest, "name": bundle.name, "steps": steps}


def with_errors(rows: list[Row], errors: Mapping[int, Mapping[str, Any]]) -> list[Row]:
    """``rows`` with these errors (:func:`our_errors`) in ours of :mod:`suite.peers`; all others stay as they are."""

    def renewed(row: Row) -> Row:
        if row.group != PEERS or row.steps is None:
            return row
        return replace(row, **errors.get(row.steps, _UNKNOWN))

    return [renewed(row) for row in rows]


def our_errors(bundle: Bundle, file: Path = FILE) -> dict[int, dict[str, Any]]:
    """The columns "mae_a", "mae_b" and "split" by number of steps, if ``file`` is of this very model; else empty.

    Errors of the test split stand in ``file`` under "test", and those that ``calibrate`` of :mod:`engine.training`
    prints under "cross_validated", put there by hand; they come before those under "steps", and are never mixed. A new
    measurement of "steps" leaves them out, as new weights need new ones.
    """
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if data.get("model") != bundle.digest:
        return {}
    source = next(key for key in _SOURCES if key in data)
    errors = {}
    for number, parts in data[source].items():
        of_parts = {f"mae_{part.lower()}": found["mae"] for part, found in parts.items()}
        errors[int(number)] = {**_UNKNOWN, "split": _SOURCES[source], **of_parts}
    return errors


def _letter(part: str) -> str:
    """ "A" for "part_A", "part_A_final" or "A"."""
    found = re.search(r"part_([A-Za-z])(?![A-Za-z])", part)
    return (found[1] if found else part).upper()
