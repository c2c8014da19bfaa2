"""The vectors that the engine and its page share: right by exact fractions, and what both count."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.zones.ignore import leave_out
from engine.zones.members import count_sides, count_zones, zone_interval

FILE = Path(__file__).parent / "member_vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text())
PAGE = Path(__file__).parents[2] / "engine" / "serve" / "page"


def exact(value: float) -> Fraction:
    return Fraction(float(np.float32(value)))


def is_inside(point: list[float], corners: list[list[float]], size: list[int] | None) -> bool:
    """Even-odd by the place where each edge passes the point's height, in fractions."""
    x, y = map(exact, point)
    if size:
        x, y = (min(value, Fraction(side) - Fraction(1, 10**9)) for value, side in zip((x, y), size, strict=True))
    passed = 0
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        (x0, y0), (x1, y1) = map(Fraction, start), map(Fraction, end)
        if y0 <= y < y1 or y1 <= y < y0:
            passed += x0 + (x1 - x0) * (y - y0) / (y1 - y0) > x
    return passed % 2 == 1


@pytest.mark.parametrize("vector", VECTORS["zones"], ids=lambda vector: vector["name"])
def test_zones(vector: dict[str, Any]) -> None:
    corners, size, points = vector["corners"], vector["size"], vector["points"]
    assert [is_inside(point, corners, size) for point in points] == [bool(one) for one in vector["inside"]]
    counted = [
        count_zones(np.array([point], np.float32), {"zone": corners}, size and tuple(size))["zone"] for point in points
    ]
    assert counted == vector["inside"]
    assert count_zones(np.array(points, np.float32), {"zone": corners}, size and tuple(size)) == {"zone": sum(counted)}


@pytest.mark.parametrize("vector", VECTORS["lines"], ids=lambda vector: vector["name"])
def test_lines(vector: dict[str, Any]) -> None:
    (x0, y0), (x1, y1) = (map(Fraction, end) for end in vector["ends"])
    # Right of who walks along it, with y pointing down, or on it.
    right = sum((x1 - x0) * (exact(y) - y0) - (exact(x) - x0) * (y1 - y0) >= 0 for x, y in vector["points"])
    assert vector["sides"] == [len(vector["points"]) - right, right]
    assert count_sides(np.array(vector["points"], np.float32), {"line": vector["ends"]}) == {
        "line": tuple(vector["sides"])
    }


@pytest.mark.parametrize("vector", VECTORS["ignored"], ids=lambda vector: vector["name"])
def test_zones_to_ignore(vector: dict[str, Any]) -> None:
    points, ignored, size = vector["points"], vector["ignored"], vector["size"]
    kept = [not any(is_inside(point, corners, size) for corners in ignored) for point in points]
    assert sum(kept) == vector["kept"]
    zones = {str(number): np.array(corners, np.float64) for number, corners in enumerate(ignored)}
    got, interval = leave_out(np.array(points, np.float32), tuple(vector["interval"]), zones, tuple(size))
    assert got.tolist() == kept
    assert list(interval) == vector["expected"]


def test_intervals() -> None:
    for vector in VECTORS["intervals"]:
        got = zone_interval(vector["people"], vector["count"], tuple(vector["interval"]))
        assert list(got) == vector["expected"]
    # Known cases of the rule: the whole has the interval of the whole, nobody reaches above it.
    known = {(v["people"], v["count"]): v["expected"] for v in VECTORS["intervals"]}
    assert known[100, 100] == [80, 130]
    assert known[0, 100] == [0, 2]


SCRIPT = """
import { readFileSync } from "node:fs";
import { countSides, countZone, exactPoints, leaveOut, membersOf, zoneInterval } from "PAGE/members.js";
const vectors = JSON.parse(readFileSync("FILE", "utf8"));
const zones = vectors.zones.map(({ points, corners, size }) => [
  membersOf(exactPoints(points), corners, size).map(Number), countZone(exactPoints(points), corners, size)]);
const lines = vectors.lines.map(({ points, ends }) => countSides(exactPoints(points), ends));
const intervals = vectors.intervals.map(({ people, count, interval }) => zoneInterval(people, count, interval));
const ignored = vectors.ignored.map((one) => leaveOut(exactPoints(one.points), one.interval, one.ignored, one.size));
console.log(JSON.stringify({ zones, lines, intervals, ignored: ignored.map((one) => [one.count, one.interval]) }));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js; tests/browser runs the page's side in a browser")
def test_the_page_counts_the_same(tmp_path: Path) -> None:
    script = tmp_path / "members.mjs"
    # Without a package.json beside it, Node takes a file of another suffix for CommonJS.
    shutil.copy(PAGE / "members.js", tmp_path / "copied.mjs")
    script.write_text(SCRIPT.replace("PAGE/members.js", "./copied.mjs").replace("FILE", str(FILE)))
    run = subprocess.run(["node", str(script)], capture_output=True, text=True, check=True)
    got = json.loads(run.stdout)
    assert [zone[0] for zone in got["zones"]] == [vector["inside"] for vector in VECTORS["zones"]]
    assert [zone[1] for zone in got["zones"]] == [sum(vector["inside"]) for vector in VECTORS["zones"]]
    assert got["lines"] == [vector["sides"] for vector in VECTORS["lines"]]
    assert got["ignored"] == [[vector["kept"], vector["expected"]] for vector in VECTORS["ignored"]]
    assert got["intervals"] == [vector["expected"] for vector in VECTORS["intervals"]]
