"""Values -> JSON, rows of CSV and tables for people, as every output writes them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

try:
    orjson: ModuleType | None = importlib.import_module("orjson")
except ImportError:
    # It only makes JSON faster: the same numbers come without it.
    orjson = None

# What spreadsheets take for the start of a formula, also in full width.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Some spreadsheets part cells at these too.
_SEPARATORS = frozenset(',;\t\r\n"')
# Excel takes a file that starts with it for UTF-8.
BOM = "\ufeff"


def plain(values: np.ndarray) -> list[Any]:
    """Nested lists of the shortest decimals that read back as the same float32 (0.1, not 0.10000000149).

    >>> import numpy as np
    >>> plain(np.array([[0.1, 2]], np.float32))
    [[0.1, 2.0]]
    """
    if orjson is not None:
        whole = values if values.flags.c_contiguous else values.copy()
        lists: list[Any] = orjson.loads(orjson.dumps(whole, option=orjson.OPT_SERIALIZE_NUMPY))
    else:
        lists = values.astype("U").astype("float64").tolist()
    return lists


def json_text(data: Any) -> str:
    """JSON of one line, in ASCII, so that it is the same on every terminal; arrays of float32 as :func:`plain`.

    >>> import numpy as np
    >>> json_text({"file": "é.jpg", "points": np.array([0.1], np.float32)})
    '{"file":"\\\\u00e9.jpg","points":[0.1]}'
    """
    if orjson is not None:
        try:
            text: str = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        except TypeError:
            # Bytes of a file name that are no text, which JSON can hold.
            text = "é"
        if text.isascii():
            return text
    return json.dumps(data, allow_nan=False, default=plain, separators=(",", ":"))


def csv_row(cells: Iterable[object]) -> str:
    """A row of CSV, with the end of its line; None is an empty cell.

    No text in it is a formula to a spreadsheet: what starts like one has ``./`` in front, which for a path is the same
    path. A lone ``-``, which is standard input, is none.

    >>> csv_row(["=1+1.jpg", 12, None, "a;=1"])
    './=1+1.jpg,12,,"a;=1"\\n'
    """
    return ",".join(_cell(cell) for cell in cells) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table for people: the first column reads from the left, numbers line up on the right.

    >>> aligned([["part", "MAE"], ["A", "64.9"]])
    ['part   MAE', 'A     64.9']
    """
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], widths, strict=True))])
        for row in rows
    ]


def _cell(cell: object) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return str(cell)
    if cell.startswith(_FORMULA) and cell != "-":
        cell = f"./{cell}"
    return '"' + cell.replace('"', '""') + '"' if not _SEPARATORS.isdisjoint(cell) else cell
