"""Zones that are surely a mistake are told, by name and reason; zones that may be meant are not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from engine.zones.doubts import doubts
from engine.zones.layout import ZoneLayout

SIZE = (640, 480)
WHOLE = [(0, 0), (640, 0), (640, 480), (0, 480)]
STAR = [(320 + 200 * np.sin(k * 4 * np.pi / 5), 240 - 200 * np.cos(k * 4 * np.pi / 5)) for k in range(5)]
# A frame: round the outside, along a bridge, round the hole the other way, and back.
KEYHOLE = [(0, 0), (600, 0), (600, 400), (0, 400), (0, 0), (100, 100), (100, 300), (500, 300), (500, 100), (100, 100)]


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ([(0, 0), (640, 0), (0, 480), (640, 480)], "crosses itself"),
        (STAR, "crosses itself"),
        ([*WHOLE, *WHOLE], "round its outline twice"),
        ([*WHOLE, WHOLE[0], *WHOLE[1:], WHOLE[0]], "round its outline twice"),
        ([*WHOLE, *WHOLE[2:], *WHOLE[:2]], "round its outline twice"),
        ([*WHOLE, *WHOLE[::-1]], "round its outline twice"),
        ([(200, 200), (1700, 200), (1700, 1000), (200, 1000)], "lies outside the picture of 640 x 480 pixels by 90 %"),
        ([(300, 100), (1000, 100), (1000, 300), (300, 300)], "by 51 %; was it drawn on a picture of another size?"),
        ([(500, -200), (900, 200), (900, -200)], "lies outside the picture of 640 x 480 pixels$"),
        ([(640, 0), (900, 0), (900, 480)], "lies outside the picture of 640 x 480 pixels$"),
        ([(0, 0), (1.0003, 0), (1.0003, 1), (0, 1)], 'spans 1 x 1 pixels; .* set the unit to "fractions"'),
        ([(-0.1, -0.1), (1.1, -0.1), (1.1, 1.1)], "fractions"),
    ],
)
def test_mistakes_are_told_with_name_and_reason(corners, reason: str) -> None:
    for layout in (ZoneLayout.from_polygons({"gate": corners}), ZoneLayout.from_polygons({}, ignore={"gate": corners})):
        (doubt,) = doubts(layout, SIZE)
        assert doubt.startswith(("zone 'gate' ", "ignore zone 'gate' "))
        assert re.search(reason, doubt)


@pytest.mark.parametrize(
    "corners",
    [
        WHOLE,
        [*WHOLE, WHOLE[0]],
        [(0, 0), (0, 0), *WHOLE[1:]],
        KEYHOLE,
        [(-50, -50), (690, -50), (690, 530), (-50, 530)],
        [(0, 0), (2, 0), (2, 2)],
        # A step, whose corners touch without crossing.
        [(0, 0), (200, 0), (200, 200), (400, 200), (400, 400), (200, 400), (200, 200), (0, 200)],
    ],
)
def test_zones_that_may_be_meant_are_not_told(corners) -> None:
    assert doubts(ZoneLayout.from_polygons({"gate": corners}), SIZE) == []


def test_fractions_are_looked_at_too_and_lines_in_fractions_without_a_unit() -> None:
    crossed = {"unit": "fractions", "zones": {"a": [[0, 0], [1, 0], [0, 1], [1, 1]]}}
    assert "crosses itself" in doubts(ZoneLayout.from_dict(crossed), SIZE)[0]
    assert doubts(ZoneLayout.from_dict({"lines": {"door": [[0, 0.5], [1.001, 0.5]]}}), SIZE)[0].startswith(
        "line 'door'"
    )
    assert doubts(ZoneLayout.from_dict({"lines": {"door": [[0, 50], [100, 50]]}}), SIZE) == []


def test_two_zones_of_one_outline_are_told_wherever_it_starts_and_whichever_way_it_goes() -> None:
    same = [WHOLE[2], WHOLE[1], WHOLE[0], WHOLE[3]]
    assert doubts(ZoneLayout.from_polygons({"a": WHOLE, "b": same}), SIZE) == [
        "zone 'b' has the same outline as zone 'a'"
    ]
    assert doubts(ZoneLayout.from_polygons({"a": WHOLE}, ignore={"b": same}), SIZE) == []
