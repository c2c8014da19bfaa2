"""The files, alerts and minutes of one camera, by a clock that the test moves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stream_frames import counted_frame
from watch_sources import camera

from engine.errors import ConfigError, EngineError
from engine.stream.frame import FrameResult
from engine.watch.station import Station
from engine.zones.layout import Alert, Shape, ZoneLayout

START = datetime(2026, 11, 28, 9, 4, 30, tzinfo=UTC)
LAYOUT = ZoneLayout({"door": Shape(((0, 0), (32, 0), (32, 48), (0, 48)))}, alerts={"door": Alert(2, 1)})


class Clock:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def at(self, seconds: float) -> None:
        self.time = START + timedelta(seconds=seconds)


def frame(inside: int, outside: int = 0, dropped: int = 0) -> Any:
    points = [(8.5, 8.5)] * inside + [(50.5, 8.5)] * outside
    return replace(counted_frame(points=points, layout=LAYOUT, dropped=dropped), time="2026-11-28T09:04:30.000Z")


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_a_frame_and_a_row_a_minute(tmp_path: Path) -> None:
    clock, alerts, minutes = Clock(), list[str](), list[str]()
    with Station(camera("gate", layout=LAYOUT), tmp_path, (), alerts.append, minutes.append, clock) as station:
        station.write(frame(1, 1))
        clock.at(10)
        station.write(frame(3, 0, dropped=2))
        clock.at(20)
        station.write(frame(0))
        # 9:05 has none; 9:06 one.
        clock.at(61)
        station.tick()
        station.tick()
        clock.at(91)
        station.write(frame(4, 2))
        clock.at(95)
    rows = read(tmp_path / "gate.csv")
    assert [(row["count"], row["zone.door"], row["alert.door"], row["dropped"]) for row in rows] == [
        ("2", "1", "0", "0"),
        ("3", "3", "1", "2"),
        ("0", "0", "0", "0"),
        ("6", "4", "1", "0"),
    ]
    assert {row["time"] for row in rows} == {"2026-11-28T09:04:30.000Z"}
    # Two for ten seconds, three for ten, none for ten, and on: until 9:06:01, and then six for four seconds.
    assert [list(row.values()) for row in read(tmp_path / "gate-minutes.csv")] == [
        ["2026-11-28T09:04:00Z", "3", "2", "1.67", "3", "1.33", "3"],
        ["2026-11-28T09:05:00Z", "0", "0", "0.0", "0", "0.0", "0"],
        ["2026-11-28T09:06:00Z", "1", "0", "4.8", "6", "3.2", "4"],
    ]
    assert alerts == [
        "2026-11-28T09:04:30.000Z gate: door: alert on at 3 people",
        "2026-11-28T09:04:30.000Z gate: door: alert off at 0 people",
        "2026-11-28T09:04:30.000Z gate: door: alert on at 4 people",
    ]
    assert minutes[0] == "gate 2026-11-28T09:04:00Z 1.7 people, at most 3, door: 1.3 people, at most 3, 3 frames"
    assert minutes[1] == "gate 2026-11-28T09:05:00Z 0.0 people, at most 0, door: 0.0 people, at most 0, 0 frames"


def test_minutes_of_a_lost_camera_and_of_a_machine_that_slept(tmp_path: Path) -> None:
    clock, minutes = Clock(), list[str]()
    with Station(camera("gate"), tmp_path, tell_minute=minutes.append, now=clock) as station:
        station.write(counted_frame())
        clock.at(60)
        station.report("lost")
        clock.at(91)
        station.tick()
        # The machine slept for three minutes, and was stopped as soon as it woke.
        clock.at(91 + 180)
    assert [list(row.values()) for row in read(tmp_path / "gate-minutes.csv")] == [
        ["2026-11-28T09:04:00Z", "1", "0", "2.0", "2"],
        ["2026-11-28T09:05:00Z", "0", "0", "2.0", "2"],
        *([f"2026-11-28T09:0{minute}:00Z", "0", "0", "", ""] for minute in (6, 7, 8)),
    ]
    assert minutes[2] == "gate 2026-11-28T09:06:00Z 0 frames"


def test_what_is_started_again_adds_to_its_files(tmp_path: Path) -> None:
    for people in (1, 2):
        with Station(camera("gate", layout=LAYOUT), tmp_path) as station:
            station.write(frame(people))
        with open(tmp_path / "gate.csv", "a") as file:
            file.write("half a li")
    assert [row["count"] for row in read(tmp_path / "gate.csv")][:2] == ["1", "2"]
    assert [row["peak"] for row in read(tmp_path / "gate-minutes.csv")] == ["1", "2"]
    before = (tmp_path / "gate.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"^cannot add to .*gate\.csv: its columns are"):
        Station(camera("gate"), tmp_path)
    assert (tmp_path / "gate.csv").read_bytes() == before


def test_a_follower_that_fails_is_said_once_and_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
            raise EngineError("no room at rtsp://user:secret@place/")

        def report(self, problem: str) -> None:
            raise OSError(28, "disk full")

    class Good(Broken):
        def __init__(self) -> None:
            self.got: list[object] = []

        def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
            self.got.append(frame.result.count)

        def report(self, problem: str) -> None:
            self.got.append(problem)

    good = Good()
    with Station(camera("gate"), None, [Broken(), good]) as station:
        station.write(frame(1))
        station.write(frame(2))
        station.report("lost")
        station.report("lost")
        station.write(frame(3))
    assert good.got == [1, 2, "lost", 3]
    assert caplog.text.count("no room at rtsp://place/") == 1
    assert "secret" not in caplog.text
    assert caplog.text.count("gate is not counted: lost") == 1
    assert caplog.text.count("gate is counted again") == 1


def test_each_reason_is_logged_once_until_frames_come(caplog: pytest.LogCaptureFixture) -> None:
    with Station(camera("gate")) as station:
        for problem in ("connecting", "refused", "silent", "refused", "silent"):
            station.report(problem)
        station.write(frame(1))
        station.write(frame(1))
        station.report("refused")
    assert [record.getMessage() for record in caplog.records] == [
        "gate is not counted: refused",
        "gate is not counted: silent",
        "gate is counted again",
        "gate is not counted: refused",
    ]
