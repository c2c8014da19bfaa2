"""Zones over time: thresholds with hysteresis, and the occupancy of a stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.result import CountResult
from engine.zones.layout import Alert
from engine.zones.occupancy import AlertEvent, AlertSwitch, Occupancy, OccupancyLog


def result(count: int, **zones: int) -> CountResult:
    cell, points = np.zeros((1, 1), np.float32), np.zeros((count, 2), np.float32)
    return CountResult(
        count, points, points[:, 0], cell, cell, cell, interval=(count, count), image_size=(2, 2), zones=zones
    )


def test_hysteresis() -> None:
    switch = AlertSwitch(Alert(high=10, low=7))
    counts = (0, 9, 10, 9, 8, 7, 9, 11, 0)
    assert [switch.update(people) for people in counts] == [0, 0, 1, 1, 1, 0, 0, 1, 0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 20)), st.integers(0, 18), st.integers(1, 10))
def test_the_state_is_that_of_the_last_count_outside_the_band(counts: list[int], low: int, band: int) -> None:
    alert = Alert(low + band, low)
    switch = AlertSwitch(alert)
    for number in range(len(counts)):
        decided = [c for c in counts[: number + 1] if c >= alert.high or c <= alert.low]
        assert switch.update(counts[number]) == (bool(decided) and decided[-1] >= alert.high)


def test_alerts_begin_and_end_once() -> None:
    log = OccupancyLog({"gate": Alert(5, 3), "total": Alert(9, 8)})
    people = [(4, 4), (9, 5), (9, 4), (4, 3)]
    events = [log.update(t, result(total, gate=gate)) for t, (total, gate) in enumerate(people)]
    assert events == [
        [],
        [AlertEvent("gate", True, 1, 5), AlertEvent("total", True, 1, 9)],
        [],
        [AlertEvent("gate", False, 3, 3), AlertEvent("total", False, 3, 4)],
    ]
    assert str(events[1][0]) == "1.00 s: gate: alert on at 5 people"
    assert log.alerts_on == ()


def test_occupancy_over_time() -> None:
    log = OccupancyLog({"gate": Alert(6, 1)})
    assert log.summary == {}
    for timestamp, people in ((10.0, 2), (11.0, 6), (14.0, 6), (16.0, 0)):
        log.update(timestamp, result(people + 1, gate=people))
        if timestamp == 10:
            # No count has held for any time yet.
            assert log.summary["gate"] == Occupancy(people=2, mean=2, peak=2, peak_at=10.0)
    # 2 for one second, 6 for five; the alert from 11 to 16 s.
    assert log.summary["gate"] == Occupancy(people=0, mean=32 / 6, peak=6, peak_at=11.0, alert_seconds=5.0)
    assert log.summary["total"].mean == pytest.approx(32 / 6 + 1)
    assert log.summary["total"].alert_seconds == 0


def test_a_clock_that_goes_back_breaks_nothing() -> None:
    log = OccupancyLog()
    for timestamp, people in ((5.0, 4), (3.0, 8), (7.0, 8)):
        log.update(timestamp, result(people))
    assert log.summary["total"] == Occupancy(people=8, mean=8.0, peak=8, peak_at=5.0)


def test_the_last_count_holds_as_long_as_it_is_said_to() -> None:
    log = OccupancyLog({"total": Alert(40, 20)})
    log.update(0.0, result(10))
    log.update(30.0, result(50))
    assert log.summary["total"].mean == 10
    log.hold(60.0)
    log.hold(45.0)
    assert log.summary["total"] == Occupancy(people=50, mean=30, peak=50, peak_at=30.0, alert_seconds=30.0)
    log.update(90.0, result(0))
    assert log.summary["total"] == Occupancy(people=0, mean=(300 + 50 * 60) / 90, peak=50, peak_at=30, alert_seconds=60)


def test_no_count_holds_while_the_stream_is_lost() -> None:
    log = OccupancyLog({"total": Alert(40, 20)})
    log.update(0.0, result(50))
    log.update(100.0, result(10), lost_at=20.0)
    log.update(120.0, result(80))
    assert log.summary["total"] == Occupancy(people=80, mean=30, peak=80, peak_at=120.0, alert_seconds=20.0)
    log.lose(140.0)
    log.hold(500.0)
    log.update(600.0, result(0))
    log.hold(620.0)
    # Of 50, 10, 80 and 0 twenty seconds each.
    assert log.summary["total"] == Occupancy(people=0, mean=35, peak=80, peak_at=120.0, alert_seconds=40.0)


def test_sums_begin_anew_with_what_holds() -> None:
    log = OccupancyLog({"total": Alert(40, 20)})
    log.update(0.0, result(50))
    log.restart(10.0)
    assert log.summary == {}
    log.update(15.0, result(30))
    log.hold(20.0)
    assert log.summary["total"] == Occupancy(people=30, mean=40, peak=50, peak_at=10.0, alert_seconds=10.0)
    log.lose(25.0)
    log.restart(30.0)
    log.hold(60.0)
    assert log.summary == {}
    assert log.alerts_on == ("total",)


def test_an_alert_without_its_zone() -> None:
    with pytest.raises(ConfigError, match="zone 'gate'"):
        OccupancyLog({"gate": Alert(5, 3)}).update(0.0, result(1))
