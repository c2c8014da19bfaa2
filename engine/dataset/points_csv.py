"""``points.csv``: a table with the columns image, x and y in pixels; a picture without rows has nobody in it."""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict

import numpy as np

from engine.dataset.entry import Entry
from engine.errors import ConfigError

_COLUMNS = ("image", "x", "y")


def read(text: str, where: str) -> list[Entry]:
    """One entry a picture that has rows.

    Spreadsheet programs separate columns with commas, semicolons or tabs. Where it is not commas, or a number is in
    quotes, it may have a decimal comma.

    Raises:
        ConfigError: the header lacks a column, or a row has no image, x and y; the message says which line.
    """
    first, _, rest = text.partition("\n")
    # Excel says so where the separator is not that of the country.
    skipped = first.lower().startswith("sep=")
    header = rest.partition("\n")[0] if skipped else first
    separator = max(",;\t", key=header.count)
    table = csv.reader(io.StringIO(rest if skipped else text, newline=""), delimiter=separator, strict=True)
    found: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    try:
        names = [name.strip().lower() for name in next(table, [])]
        if not set(_COLUMNS) <= set(names):
            raise ConfigError(f"{where} must start with the header image,x,y, got {names}")
        columns = [names.index(name) for name in _COLUMNS]
        for row in table:
            if any(cell.strip() for cell in row):
                line = table.line_num + skipped
                image, x, y = _cells(row, columns, len(names), f"{where}, line {line}")
                found[image].append((line, x, y))
    except csv.Error as error:
        raise ConfigError(f"{where}, line {table.line_num + skipped}: {error}") from error
    return [
        Entry((image,), np.array([row[1:] for row in rows]), where, "line {}", [row[0] for row in rows])
        for image, rows in found.items()
    ]


def write(pictures: list[tuple[str, list[list[float]]]]) -> str:
    """The table of pictures' names and points; those without points have no rows."""
    file = io.StringIO(newline="")
    table = csv.writer(file, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows((name, x, y) for name, points in pictures for x, y in points)
    return file.getvalue()


def _cells(row: list[str], columns: list[int], width: int, where: str) -> tuple[str, float, float]:
    if len(row) != width:
        raise ConfigError(
            f"{where} has {len(row)} values where the header has {width}; points must be pairs of numbers: write 10.5, "
            "or separate the columns with semicolons where numbers have a decimal comma"
        )
    image, x, y = (row[column].strip() for column in columns)
    if not image:
        raise ConfigError(f"{where} names no picture")
    return image, _number(x, where), _number(y, where)


def _number(text: str, where: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    # float() takes digits apart by "_" too, which no program writes.
    if not math.isfinite(value) or "_" in text:
        raise ConfigError(f"{where}: points must be pairs of numbers, got {text!r}")
    return value
