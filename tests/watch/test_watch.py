"""All cameras and one counter: fairness over a minute, newest frames, and cameras that are lost."""

from __future__ import annotations

import logging
import threading
import time as time_module
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from watch_sources import FakeCamera, FakeCounter, Time, camera

from engine.errors import BackendError, ImageError, SourceError
from engine.stream.frame import Frame, FrameResult
from engine.stream.live import LiveVideo, Patience
from engine.stream.video import Picture
from engine.watch.station import Station
from engine.watch.watch import Watch

PERIODS = (1 / 25, 1 / 30, 1 / 12.5, 1 / 15, 1 / 10)
NEVER = float("inf")


class Listener:
    def __init__(self) -> None:
        self.frames: list[FrameResult] = []
        self.times: list[float] = []
        self.problems: list[str] = []

    def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
        self.frames.append(frame)

    def report(self, problem: str) -> None:
        self.problems.append(problem)


class Scene:
    """Five cameras that give more than can be counted, for a minute of their clock."""

    def __init__(self, lost: dict[int, tuple[float, bool]] | None = None, slow: int | None = None):
        self.time, self.lost, self.opened = Time(), lost or {}, [0] * len(PERIODS)
        self.names = [f"camera-{number}" for number in range(len(PERIODS))]
        # Where frames are due and none was given yet, time stands still.
        self.time.next = dict.fromkeys(self.names, 0.0)
        self.listeners = [Listener() for _ in PERIODS]
        stations = [Station(camera(n), followers=[f]) for n, f in zip(self.names, self.listeners, strict=True)]
        self.watch = Watch(None, stations, self.open, self.time)  # type: ignore[arg-type]
        cost = {slow: 0.2} if slow is not None else {}
        self.counter = FakeCounter(self.time, lambda n: cost.get(n, 0.05), 60, self.watch.close)
        self.watch._counter = self.counter

    def open(self, wanted: Any) -> FakeCamera:
        number = self.names.index(wanted.name)
        self.opened[number] += 1
        lost_at, hangs = self.lost.get(number, (NEVER, False))
        return FakeCamera(self.time, wanted.name, number, PERIODS[number], lost_at, hangs)


class Recording(FakeCamera):
    is_live = False

    def frames(self) -> Any:
        for index in range(30):
            yield Frame(index, index / 10, np.full((48, 64, 3), self._number, np.uint8))


@pytest.mark.parametrize("slow", [None, 2])
def test_every_camera_has_its_share_over_a_minute(slow: int | None) -> None:
    scene = Scene(slow=slow)
    scene.watch.run()
    counts, whole = scene.counter.counts, sum(scene.counter.counts.values())
    assert whole >= 700
    for number in range(len(PERIODS)):
        assert counts[number] >= 0.8 / len(PERIODS) * whole, counts
    for listener, period in zip(scene.listeners, PERIODS, strict=True):
        # Each is the newest there was when its turn came, and says how many were passed over.
        indices = [frame.index for frame in listener.frames]
        assert indices == sorted(set(indices))
        assert indices[-1] >= 59 / period - 10
        assert indices[-1] == sum(frame.dropped + 1 for frame in listener.frames) - 1
        assert {frame.result.count for frame in listener.frames} == {scene.listeners.index(listener)}


@pytest.mark.parametrize("hangs", [True, False])
def test_a_lost_camera_does_not_disturb_the_others(hangs: bool, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(lost={1: (20.0, hangs)})
    with caplog.at_level(logging.INFO, logger="engine"):
        scene.watch.run()
    counts, whole = scene.counter.counts, sum(scene.counter.counts.values())
    for number in {*range(len(PERIODS))} - {1}:
        assert counts[number] >= 0.8 / len(PERIODS) * whole, counts
        assert scene.opened[number] == 1
        assert scene.listeners[number].problems in ([], ["connecting"])
    assert 60 <= counts[1] <= 100
    said = scene.listeners[1].problems[-1]
    assert ("no frame for" if hangs else "rtsp://camera-1/live") in said
    assert "secret" not in said + caplog.text


def test_why_a_camera_that_worked_is_lost(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own name in the log, once, though the connection is made again and again."""
    pixels, attempts = np.full((48, 64, 3), 2, np.uint8), [0]

    class Connection:
        def pictures(self, check: Any) -> Any:
            attempts[0] += 1
            if attempts[0] in (1, 5):
                yield Picture(None, lambda: pixels, ())
            raise SourceError("HTTP status 502 of rtsp://user:secret@gate/live?pwd=secret")

        def close(self) -> None:
            """Nothing is open."""

    class Told(Listener):
        def report(self, problem: str) -> None:
            super().report(problem)
            if attempts[0] >= 5 and self.frames[1:]:
                watch.close()

    def opener(wanted: Any) -> LiveVideo:
        patience, lost = Patience(first_delay=0.2, give_up=NEVER), wanted.options.lost
        return LiveVideo("rtsp://gate/live", Connection, Connection(), None, patience, lost=lost)

    monkeypatch.setattr("engine.watch.watch._TICK", 0.02)
    listener = Told()
    counter = FakeCounter(Time(), lambda _: 0.0, NEVER, lambda: None)
    watch = Watch(counter, [Station(camera("gate"), followers=[listener])], opener)
    watch.run()
    problem = "it was lost: HTTP status 502 of rtsp://gate/live?..."
    assert [text for text in listener.problems if text != "connecting"] == [problem] * 2
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"gate is not counted: {problem}", "gate is counted again", f"gate is not counted: {problem}"]


def test_the_last_frame_of_a_lost_camera_is_told_before_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its count takes longer than the loss."""
    told, lost = list[str](), threading.Event()

    class Short(FakeCamera):
        def frames(self) -> Any:
            yield Frame(0, 0.0, np.full((48, 64, 3), 2, np.uint8))
            lost.set()
            raise SourceError("gone")

    class Slow(FakeCounter):
        def count(self, img: Any, *, zones: Any) -> Any:
            assert lost.wait(60)
            time_module.sleep(0.2)
            told.append("counted")
            return super().count(img, zones=zones)

    class Told(Listener):
        def report(self, problem: str) -> None:
            told.append(problem)
            if problem == "gone":
                watch.close()

    monkeypatch.setattr("engine.watch.watch._TICK", 0.01)
    time = Time()
    watch = Watch(
        Slow(time, lambda _: 0.0, NEVER, lambda: None),
        [Station(camera("gate"), followers=[Told()])],
        lambda _: Short(time, "gate", 0, 1, NEVER, False),
    )
    watch.run()
    assert [text for text in told if text != "connecting"][:2] == ["counted", "gone"]


def test_a_picture_that_cannot_be_counted_is_its_cameras_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, count = Scene(), FakeCounter.count

    def fail(self: FakeCounter, img: Any, *, zones: Any) -> Any:
        result = count(self, img, zones=zones)
        if img[0, 0, 0] == 3:
            raise ImageError("too large")
        return result

    monkeypatch.setattr(FakeCounter, "count", fail)
    scene.watch.run()
    assert not scene.listeners[3].frames
    assert "too large" in scene.listeners[3].problems
    assert len(scene.listeners[0].frames) >= 0.8 / 5 * 1200


def test_a_counter_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise BackendError("out of order")

    monkeypatch.setattr(FakeCounter, "count", fail)
    with pytest.raises(BackendError, match="out of order"):
        Scene().watch.run()


def test_several_are_counted_at_once_but_each_in_its_order() -> None:
    """With as many threads as cameras."""
    busy, most = set[int](), [0]
    lock = threading.Lock()

    class Several(FakeCounter):
        parallel = 3

        def count(self, img: Any, *, zones: Any) -> Any:
            number = int(img[0, 0, 0])
            with lock:
                assert number not in busy
                busy.add(number)
                most[0] = max(most[0], len(busy))
            time_module.sleep(0.002)
            with lock:
                busy.remove(number)
            return super().count(img, zones=zones)

    time, listeners = Time(), [Listener() for _ in range(3)]
    names = ["a", "b", "c"]
    watch = Watch(
        Several(time, lambda _: 0.0, NEVER, lambda: None),
        [Station(camera(name), followers=[listener]) for name, listener in zip(names, listeners, strict=True)],
        lambda wanted: Recording(time, wanted.name, names.index(wanted.name), 1, NEVER, False),
        time,
    )
    watch.run()
    assert most[0] > 1
    for number, listener in enumerate(listeners):
        assert [frame.index for frame in listener.frames] == list(range(30))
        assert {frame.result.count for frame in listener.frames} == {number}


def test_recordings_are_counted_to_their_end_frame_by_frame() -> None:
    time, listener = Time(), Listener()
    watch = Watch(
        FakeCounter(time, lambda _: 0.0, NEVER, lambda: None),
        [Station(camera("hall"), followers=[listener])],
        lambda _: Recording(time, "hall", 0, 1, NEVER, False),
        time,
    )
    assert watch.run()
    assert [frame.index for frame in listener.frames] == list(range(30))
    assert {frame.file for frame in listener.frames} == {"hall"}
    assert listener.problems[-1] == "it ended"


def test_a_recording_that_fails_is_not_begun_again() -> None:
    class Damaged(Recording):
        def frames(self) -> Any:
            yield from super().frames()
            raise SourceError("the rest is damaged")

    time, listener = Time(), Listener()
    watch = Watch(
        FakeCounter(time, lambda _: 0.0, NEVER, lambda: None),
        [Station(camera("hall"), followers=[listener])],
        lambda _: Damaged(time, "hall", 0, 1, NEVER, False),
        time,
    )
    assert not watch.run()
    assert len(listener.frames) == 30
    assert listener.problems[-1] == "the rest is damaged"
