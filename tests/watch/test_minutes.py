"""What a camera saw in each minute: means over time, losses, and clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from stream_frames import counted_frame

from engine.watch.minutes import Minute, MinuteLog
from engine.zones.layout import Shape, ZoneLayout

START = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
# The left half of the picture.
LAYOUT = ZoneLayout({"door": Shape(((0, 0), (32, 0), (32, 48), (0, 48)))})


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def result(people: int, inside: int = 0) -> Any:
    points = [(8.5, 8.5)] * inside + [(50.5, 8.5)] * (people - inside)
    return counted_frame(points=points, layout=LAYOUT).result


def minutes_of(counts: list[tuple[float, int]], end: float) -> list[Minute]:
    """The minutes of counts at so many seconds, looked at every half a second, as a watch does."""
    log, over, counts = MinuteLog(START), list[Minute](), counts[::-1]
    for tick in range(int(2 * end) + 1):
        over += log.tick(at(tick / 2))
        while counts and counts[-1][0] <= tick / 2:
            log.add(at(tick / 2), 0, result(counts.pop()[1]))
    return over


def cells(minutes: list[Minute]) -> list[tuple[object, ...]]:
    """Of each minute its frames, mean and peak."""
    return [(m.frames, *m.cells(ZoneLayout())[3:]) for m in minutes]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([(0, 10), (30, 50), (60, 10), (90, 50)], [(2, 30, 50)] * 2),
        ([(20 * i, 90 if i % 3 == 2 else 0) for i in range(6)], [(3, 30, 90)] * 2),
        # Nothing is known before the first.
        ([(5, 10), (10, 100)], [(2, 91.82, 100), (0, 100, 100)]),
        ([(0, 60), (75, 0)], [(1, 60, 60), (1, 15, 60)]),
        # Slower than a minute: the count holds through those without a frame.
        ([(30, 6), (150, 12)], [(1, 6, 6), (0, 6, 6), (1, 9, 12), (0, 12, 12)]),
        ([], [(0, None, None)] * 2),
    ],
)
def test_each_count_holds_until_the_next(counts: list[tuple[float, int]], expected: list[tuple[object, ...]]) -> None:
    assert cells(minutes_of(counts, 60 * len(expected))) == expected


def test_a_count_that_ended_with_its_minute_is_no_peak_of_the_next() -> None:
    assert cells(minutes_of([(0, 90), (60, 1)], 120)) == [(1, 90, 90), (1, 1, 1)]


def test_zones_are_averaged_likewise() -> None:
    log = MinuteLog(START)
    log.add(at(0), 0, result(4, inside=1))
    log.add(at(45), 0, result(9, inside=5))
    (minute,) = log.tick(at(60).astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert minute.cells(LAYOUT) == ["2026-11-28T09:00:00Z", 2, 0, 5.25, 9, 2, 5]


def test_no_count_holds_while_the_camera_is_lost() -> None:
    log = MinuteLog(START)
    log.add(at(0), 0, result(10))
    log.add(at(10), 0, result(40))
    log.lose(at(20))
    over = log.tick(at(60)) + log.tick(at(120))
    log.add(at(120), 0, result(8))
    over += log.tick(at(150))
    log.lose(at(150))
    log.add(at(160), 0, result(2))
    over += log.tick(at(180))
    # Ten seconds of each; nothing; and eight for 30 s, two for 20 s.
    assert cells(over) == [(2, 25, 40), (0, None, None), (2, 5.6, 8)]


def test_minutes_in_which_the_machine_slept_are_there_and_nothing_is_known_of_them() -> None:
    log = MinuteLog(START)
    log.add(at(0), 3, result(10))
    assert log.tick(at(30)) == []
    over = log.tick(at(30 + 5 * 60))
    assert [minute.start for minute in over] == [at(60 * i) for i in range(5)]
    assert cells(over) == [(1, 10, 10)] + [(0, None, None)] * 4
    assert (over[0].dropped, over[1].dropped) == (3, 0)
    assert log.tick(at(31 + 5 * 60)) == []
    log.add(at(345), 0, result(7))
    assert cells(log.tick(at(360))) == [(1, 7, 7)]


@pytest.mark.parametrize(("hours", "minutes"), [(24, 24 * 60), (25, 1), (24 * 365 * 56, 1)])
def test_a_clock_that_is_set_makes_no_minutes_that_never_were(hours: int, minutes: int) -> None:
    log = MinuteLog(START)
    log.add(at(0), 0, result(10))
    assert len(log.tick(at(3600 * hours))) == minutes
    log.add(at(3600 * hours), 0, result(4))
    assert cells(log.tick(at(3600 * hours + 60))) == [(1, 4, 4)]


def test_a_clock_that_is_set_back_lets_the_minute_go_on() -> None:
    log = MinuteLog(START)
    log.add(at(0), 0, result(10))
    assert log.tick(at(-600)) == []
    log.add(at(-600), 0, result(20))
    assert [minute.start for minute in log.tick(at(60))] == [START]


def test_what_there_is_of_the_last_minute() -> None:
    log = MinuteLog(START)
    assert log.end(at(10)) is None
    log.add(at(10), 0, result(10))
    log.add(at(15), 0, result(2))
    assert cells([log.end(at(50))]) == [(2, 3, 10)]
