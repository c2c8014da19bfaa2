"""JSON and CSV as every output writes them."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import numpy as np
import pytest

from engine.system import text
from engine.system.text import csv_row, json_text, plain


@pytest.fixture(params=[True, False], ids=["orjson", "json"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(text, "orjson", None)


def every_kind_of_float() -> np.ndarray:
    bits = np.random.default_rng(0).integers(0, 2**32, 100_000).astype(np.uint32)
    floats = np.concatenate([bits.view(np.float32), np.float32([0.1, 1e-45, 3.4e38, 16777217, 0.5])])
    return floats[np.isfinite(floats)]


@pytest.mark.usefixtures("library")
def test_floats_are_the_shortest_decimals_that_read_back() -> None:
    values = every_kind_of_float()
    lists = plain(values)
    assert np.array_equal(np.array(lists, np.float32), values)
    assert lists == [float(str(value)) for value in values]
    pairs = values[:1000].reshape(-1, 2)
    assert plain(pairs) == plain(pairs.T.copy().T) == np.array(lists[:1000]).reshape(-1, 2).tolist()
    assert json.loads(json_text({"points": pairs})) == {"points": plain(pairs)}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "data",
    [
        {"file": "plain.jpg", "count": 3, "points": [[0.5, 1.25]], "time": None, "warm": True},
        {"file": "größe 人.jpg"},
        {"file": b"\xff.jpg".decode("utf-8", "surrogateescape")},
        {"zones": {'a"b\\c\n': 1}, "timings": {"load": 1e-7}},
        [],
    ],
)
def test_json_reads_back_and_is_ascii(data: Any) -> None:
    line = json_text(data)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == data


def test_points_are_written_many_times_as_fast_as_by_the_standard_library() -> None:
    points = np.random.default_rng(0).uniform(0, 4000, (5000, 2)).astype(np.float32)
    ours, theirs = [], []
    for _ in range(10):
        start = time.process_time()
        json_text({"points": points})
        middle = time.process_time()
        json.dumps({"points": points.tolist()})
        ours.append(middle - start)
        theirs.append(time.process_time() - middle)
    # Where it was measured, 0.3 ms against 12.
    assert min(ours) < min(theirs) / 3


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0d"])
def test_no_text_is_a_formula(start: str) -> None:
    for name in (f"{start}1+1.jpg", f'{start}HYPERLINK("http://example.invalid";"x").jpg'):
        ((cell, number),) = csv.reader(io.StringIO(csv_row([name, 3]), newline=""))
        assert (cell, number) == (f"./{name}", "3")


def test_cells_are_not_parted_by_other_separators_either() -> None:
    """A spreadsheet may part cells at semicolons and tabs; within quotes it does not."""
    for separator in ";\t":
        row = csv_row([f"a{separator}=1+1.jpg", 3]).replace(",", separator)
        assert next(csv.reader([row], delimiter=separator)) == [f"a{separator}=1+1.jpg", "3"]


def test_a_row_reads_back() -> None:
    cells = ["a.jpg", "-", 'say "hi", twice', "two\nlines", None, 3, 0.5, True, "it's"]
    (read,) = csv.reader(io.StringIO(csv_row(cells), newline=""))
    assert read == ["a.jpg", "-", 'say "hi", twice', "two\nlines", "", "3", "0.5", "True", "it's"]
    assert csv_row(["a.jpg", 3]) == "a.jpg,3\n"
