"""What is derived from the rows of a run, and what is printed at its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from suite.ceilings import Ceilings
from suite.results import Results, Row, plain_row

# Groups whose time follows a power of one of their columns.
SCALING = {"pixels": "pixels", "steps": "steps", "batch": "batch", "threads": "threads", "people": "people"}


def ceiling_rows(ceilings: Ceilings) -> list[Row]:
    """The measured ceilings as rows."""
    rows = [plain_row("ceiling", "FMA loop in registers", "float32", "GFLOP/s", ceilings.fma)] if ceilings.fma else []
    rows += [plain_row("ceiling", "product of large matrices", k, "GFLOP/s", v) for k, v in ceilings.dot.items()]
    return rows + [
        plain_row("ceiling", f"copy of {size / 1e6:.3g} MB", "float32", "GB/s", rate)
        for size, rate in ceilings.copies.items()
    ]


def with_roof(row: Row, ceilings: Callable[[], Ceilings]) -> Row:
    """The row with its share of the roof, where it has rates of the CPU."""
    if (row.gbps is None and row.gflops is None) or "cuda" in row.way:
        return row
    dtype = next((x for x in ("bfloat16", "int8") if x in row.way), "float32")
    gbps = row.gbps or 0.0
    roof = ceilings().roof(row.gflops or 0.0, gbps, gbps * row.p50 * 1e6, dtype)
    return dataclasses.replace(row, roof=roof)


def exponents(results: Results) -> list[Row]:
    """For each scaling group the exponent of the power law that fits its times best, by least squares of logarithms."""
    rows = []
    for name in SCALING:
        points = results.find(f"time against {name}")
        if len(points) < 2:
            continue
        sizes = np.array([size_of(row, name) for row in points], float)
        slope = np.polyfit(np.log(sizes), np.log([row.p50 for row in points]), 1)[0]
        rows.append(plain_row("exponent", f"time against {name}", points[0].case, "", float(slope)))
    return rows


def size_of(row: Row, name: str) -> float:
    """The column that a scaling group varies; pixels are width times height."""
    if name == "pixels":
        assert row.width
        assert row.height
        return float(row.width * row.height)
    return float(getattr(row, name))


def render(results: Results, no_gpu: str | None) -> Iterator[str]:
    """Ceilings, kernels as shares of the roof, exponents, and what was refused or left out."""
    if results.quick:
        yield "QUICK MODE: these times are too short and too few to mean anything; only the checks count."
    for row in results.find("ceiling"):
        yield f"ceiling: {row.case}, {row.way}: {row.p50:.4g} {row.unit}"
    for row in results.rows:
        if row.roof is not None:
            rate = f"{row.gflops:7.1f} GFLOP/s" if row.gflops else f"{row.gbps:7.2f} GB/s   "
            yield f"{row.group} {row.case}: {row.way}: {row.p50:.4g} ms, {rate}, {row.roof:.0f} % of the roof"
    for row in results.find("exponent"):
        yield f"{row.case} ({row.way}): exponent {row.p50:.2f}"
    yield f"the machine's own speed varied by {results.drift:.0%} during the run"
    if no_gpu:
        yield f"no GPU was timed: {no_gpu}"
    for name, reason in results.refused.items():
        yield f"REFUSED, NOT TIMED: {name}: {reason}"
    reasons: dict[str, list[str]] = {}
    for name, reason in results.left_out.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        yield f"left out: {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {reason}"
