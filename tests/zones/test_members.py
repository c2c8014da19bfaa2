"""Zones and lines: who is in them, how sure that is, and what is refused."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import engine
from engine.errors import ConfigError
from engine.zones.ignore import blank
from engine.zones.inputs import as_layout, load_layout
from engine.zones.layout import ZoneLayout
from engine.zones.members import count_sides, count_zones, zone_interval

SQUARE = [(0, 0), (6, 0), (6, 6), (0, 6)]


def grid(width: int, height: int, step: float = 1.0) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(0, width + 1, step), np.arange(0, height + 1, step)), -1).reshape(-1, 2)


def test_zones_count_points_inside() -> None:
    points = np.array([[1, 1], [9, 9], [5, 5], [20, 5]], np.float32)
    zones = {"box": SQUARE, "triangle": [(4, 4), (12, 12), (4, 12)], "far": [(90, 90), (95, 90), (95, 95)]}
    counts = count_zones(points, zones)
    # (5, 5) and (9, 9) lie on the slope of the triangle, which is on its right: outside.
    assert counts == {"box": 2, "triangle": 0, "far": 0}
    assert count_zones(points, None) == {}
    assert count_zones(points[:0], zones) == {"box": 0, "triangle": 0, "far": 0}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "corners",
    [
        [(8, 4), (16, 4), (16, 12), (8, 12)],
        [(9.3, 4.9), (17.1, 5.2), (16.4, 13.8)],
        # It crosses itself, and leaves the picture at all sides.
        [(-30, 3), (70, 18), (-30, 18), (70, 3), (20, -40), (21, 60)],
    ],
)
def test_the_map_is_blank_in_the_cells_whose_middles_are_in_a_zone(
    corners: list[tuple[float, float]], stride: int
) -> None:
    cells = np.random.default_rng(0).uniform(0.1, 1, (21 // stride, 40 // stride)).astype(np.float32)
    before, far = cells.copy(), np.array([(35.0, 0.0), (39.0, 0.0), (39.0, 2.0)])
    blanked = blank(cells, {"poster": np.array(corners, float), "far": far}, stride)
    for (row, column), value in np.ndenumerate(blanked):
        middle = np.array([[column + 0.5, row + 0.5]], np.float32) * stride
        inside = sum(count_zones(middle, {"poster": corners, "far": far}).values())
        assert value == (0 if inside else before[row, column]), (row, column)
    assert np.array_equal(cells, before)
    assert blanked.dtype == np.float32
    assert 0 < (blanked == 0).sum() < cells.size


@pytest.mark.parametrize("seed", range(5))
def test_inside_is_what_pillow_fills(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Five corners at random cross each other: the even-odd rule matters.
    corners = rng.integers(0, 200, (5, 2)).tolist()
    canvas = Image.new("1", (200, 200))
    ImageDraw.Draw(canvas).polygon([tuple(c) for c in corners], fill=1)
    filled = np.asarray(canvas)
    points = rng.integers(0, 200, (2000, 2)).astype(np.float32)
    ends = np.array(corners, float)
    along = np.roll(ends, -1, axis=0) - ends
    part = ((points[:, None] - ends) * along).sum(-1) / (along**2).sum(-1)
    away = np.hypot(*np.moveaxis(points[:, None] - ends - np.clip(part, 0, 1)[..., None] * along, -1, 0)).min(axis=1)
    # Pillow fills pixels at the edges on both sides.
    clear = points[away > 2]
    assert len(clear) > 1000
    single = [count_zones(point[None], {"zone": corners})["zone"] for point in clear]
    np.testing.assert_array_equal(single, filled[clear[:, 1].astype(int), clear[:, 0].astype(int)])


def test_a_point_on_a_shared_edge_is_counted_once() -> None:
    points = grid(10, 10).astype(np.float32)
    left, right = [(0, 0), (5, 0), (5, 10), (0, 10)], [(5, 0), (10, 0), (10, 10), (5, 10)]
    both = [(0, 0), (10, 0), (10, 10), (0, 10)]
    counts = count_zones(points, {"left": left, "right": right, "both": both})
    # The left and upper borders are in, the right and lower ones are not.
    assert counts == {"left": 50, "right": 50, "both": 100}


coordinate = st.floats(0, 100, width=32)


@settings(deadline=None)
@given(st.tuples(coordinate, coordinate), st.tuples(coordinate, coordinate), st.lists(st.floats(0, 1), min_size=1))
def test_a_slanted_border_loses_and_doubles_nobody(
    start: tuple[float, float], end: tuple[float, float], parts: list[float]
) -> None:
    # The border cuts the square from its upper to its lower side; both zones run along it, in opposite directions.
    top, bottom = (start[0], 0.0), (end[0], 100.0)
    left = [(-1, 0), top, start, end, bottom, (-1, 100)]
    right = [(101, 0), (101, 100), bottom, end, start, top]
    on = np.array([[a + (b - a) * p for a, b in zip(start, end, strict=True)] for p in parts])
    # Also the floats around the border.
    points = np.concatenate([on, np.nextafter(on, -1), np.nextafter(on, 101)]).astype(np.float32)
    points = points[(points >= 0).all(axis=1) & (points[:, 1] < 100)]
    counts = count_zones(points, {"left": left, "right": right})
    assert counts["left"] + counts["right"] == len(points)


@pytest.mark.parametrize("size", [(640, 480), (641, 477), (7, 5)])
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_fractions_part_a_picture_of_any_size(size: tuple[int, int], parts: int) -> None:
    cuts = [i / parts for i in range(parts + 1)]
    layout = ZoneLayout.from_polygons(
        {
            f"{row}-{column}": [
                (cuts[column], cuts[row]),
                (cuts[column + 1], cuts[row]),
                (cuts[column + 1], cuts[row + 1]),
                (cuts[column], cuts[row + 1]),
            ]
            for row in range(parts)
            for column in range(parts)
        },
        unit="fractions",
    )
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.random((500, 2)), np.array(cuts)[rng.integers(0, parts + 1, (200, 2))]])
    points = (points * size).astype(np.float32)
    # Heads may be counted right on the far borders of the picture.
    points[:3] = [size, (0, size[1]), (size[0], 0)]
    points = np.minimum(points, np.array(size, np.float32))
    counts = count_zones(points, layout.zone_corners(size), size)
    assert sum(counts.values()) == len(points)


def test_sides_of_a_line() -> None:
    points = np.array([[1, 1], [9, 1], [5, 3], [9, 9]], np.float32)
    # Downwards on the picture, the left hand is where x grows.
    assert count_sides(points, {"down": [(5, 0), (5, 10)]}) == {"down": (2, 2)}
    assert count_sides(points, {"up": [(5, 10), (5, 0)]}) == {"up": (1, 3)}
    # It goes on beyond its ends.
    assert count_sides(points, {"short": [(5, 0), (5, 0.001)]}) == {"short": (2, 2)}
    assert count_sides(points, {"level": [(0, 5), (10, 5)]}) == {"level": (3, 1)}
    assert count_sides(points[:0], {"level": [(0, 5), (10, 5)]}) == {"level": (0, 0)}


@pytest.mark.parametrize(("count", "interval"), [(100, (80, 130)), (7, (4, 12)), (1, (0, 4)), (5000, (4000, 7000))])
def test_the_interval_of_a_zone(count: int, interval: tuple[int, int]) -> None:
    assert zone_interval(count, count, interval) == interval
    assert zone_interval(0, 0, (0, 3)) == (0, 3)
    last = (0, 0)
    for people in range(0, count + 1, max(1, count // 50)):
        low, high = zone_interval(people, count, interval)
        assert 0 <= low <= people <= high <= interval[1]
        assert high >= last[1]
        last = low, high
        # By the formula, with exact ratios; the square root alone is a float.
        apart = 2 * math.sqrt(people * (count - people) / count)
        lower = max(Fraction((people + 5) * (interval[0] + 5), count + 5) - 5, Fraction(0)) - Fraction(apart)
        upper = Fraction((people + 5) * (interval[1] + 5), count + 5) - 5 + Fraction(apart)
        assert low in (max(math.floor(lower), 0), max(math.floor(lower + Fraction(1, 10**6)), 0))
        assert high in {min(math.ceil(upper - f * Fraction(1, 10**6)), interval[1]) for f in (0, 1)}


def test_the_interval_of_a_zone_is_wider_than_its_share() -> None:
    low, high = zone_interval(25, 100, (80, 130))
    assert low < 20
    assert high > 33
    # Certainty about the whole is none about where they are.
    assert zone_interval(50, 100, (100, 100)) == (40, 60)
    # A share that is known, as nobody is elsewhere, adds nothing.
    assert zone_interval(100, 100, (100, 100)) == (100, 100)


BAD_POLYGONS: list[Any] = [
    [(0, 0), (1, 1)], [(0, 0, 0)] * 3, [(0, 0), (1, float("nan")), (1, 1)], [], "gate", None, 7, [1, 2, 3],
    [("0", "0"), ("9", "0"), ("9", "9")], [(True, False), (True, True), (False, True)], [(0, 0), (5, 5), (9, 9)],
    [(4, 4)] * 5, [(0, 0), (1e300, 0), (5, 5)], [(0, 0), (10**400, 0), (5, 5)], [(0, 0), (9, 0), (9,)],
    [(i, i % 7) for i in range(1001)], [[[0, 0]], [[9, 0]], [[9, 9]]],
]  # fmt: skip


@pytest.mark.parametrize("polygon", BAD_POLYGONS, ids=lambda p: repr(p)[:30])
def test_polygons_that_are_none_are_refused(polygon: Any) -> None:
    with pytest.raises(ConfigError, match="zone 'door'"):
        count_zones(np.zeros((1, 2), np.float32), {"door": polygon})
    with pytest.raises(ConfigError, match="zone 'door'") as caught:
        as_layout({"door": polygon})
    # Not all of a long polygon.
    assert len(str(caught.value)) < 400


PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"


def test_pictures_and_batches_are_counted_by_zone(tmp_path: Path) -> None:
    halves = {"left": [(0, 0), (384, 0), (384, 576), (0, 576)], "right": [(384, 0), (768, 0), (768, 576), (384, 576)]}
    path = tmp_path / "zones.json"
    path.write_text(json.dumps({"zones": halves, "lines": {"middle": [[384, 0], [384, 576]]}}))
    with engine.CrowdCounter(device="cpu") as counter:
        plain = counter.count(PICTURE)
        results = [counter.count(PICTURE, zones=path), *counter.count_batch([PICTURE], zones=load_layout(path))]
        far = counter.count(PICTURE, zones={"far": [(9000, 0), (9001, 0), (9001, 5)]})
    for result in results:
        left = int((result.points[:, 0] < 384).sum())
        assert result.count == plain.count > 0
        assert result.zones == {"left": left, "right": result.count - left}
        # Downwards, the left hand is the right half.
        assert sum(result.lines["middle"]) == result.count
        assert abs(result.lines["middle"][1] - left) <= (result.points[:, 0] == 384).sum()
        assert result.zone_intervals == {
            name: zone_interval(people, result.count, result.interval) for name, people in result.zones.items()
        }
        assert (np.asarray(result.plot()) != np.asarray(result.plot(zones=False))).any()
        np.testing.assert_array_equal(np.asarray(result.plot(zones=False)), np.asarray(plain.plot()))
        assert result.warnings == ()
        data = json.loads(result.to_json())
        assert data["zones"]["left"] == left
        assert data["zone_intervals"]["left"] == list(result.zone_intervals["left"])
        assert data["lines"]["middle"] == list(result.lines["middle"])
    assert far.zones == {"far": 0}
    assert "zone 'far' lies outside the picture of 768 x 576 pixels" in far.warnings
