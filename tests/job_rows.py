"""Rows of a job, written to Parquet parts of five rows, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset

from engine.jobs.parts import Parts, schema
from engine.jobs.row import Row
from engine.result import CountResult
from engine.zones.layout import ZoneLayout

HEAD = {"model": "abc", "steps": 2}


def row(number: int) -> Row:
    """Every third is an error."""
    if number % 3 == 2:
        return Row(number, f"{number}.jpg", 0.5, error="damaged")
    zero = np.zeros((2, 2), np.float32)
    people = number % 4
    points, scores = np.arange(2 * people, dtype=np.float32).reshape(people, 2) / 10, np.full(people, 0.7, np.float32)
    layout = ZoneLayout.from_dict({"zones": {"gate": [[0, 0], [9, 0], [9, 9]]}, "lines": {"door": [[0, 0], [9, 9]]}})
    more: dict[str, Any] = {"zones": {"gate": people}, "lines": {"door": (people, 0)}, "_layout": layout}
    size: Any = {"interval": (people, people + 2), "image_size": (64, 48), "warnings": ("dark",)}
    result = CountResult(people, points, scores, zero, zero, zero, **size, **more)
    return Row(number, f"{number}.jpg", 0.25, result.to_dict())


def parts(folder: Path, resume: bool = False, head: dict[str, Any] = HEAD) -> Parts:
    return Parts(folder, head, resume, part_rows=5)


def fill(folder: Path, start: int, end: int, resume: bool = False, stop: bool = False) -> None:
    with parts(folder, resume) as job:
        assert job.done == start
        for number in range(start, end):
            job.add(row(number))
        if stop:
            raise KeyboardInterrupt
        job.finish()


def read(folder: Path) -> list[int]:
    """Ids in the order of the parts, as any reader of a folder of Parquet has them."""
    table = pyarrow.dataset.dataset(folder, format="parquet").to_table()
    assert table.schema.equals(schema())
    return table.column("id").to_pylist()
