"""Cameras and a counter whose time passes only while something is counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from stream_frames import counted_frame

from engine import CountResult
from engine.errors import SourceError
from engine.stream.frame import Frame
from engine.watch.config import Camera

# No test waits as long; a hang ends as a failure.
PATIENCE = 60


class Time:
    """A clock that is moved by hand, once every camera has given what is due."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.changed = threading.Condition()
        self.next: dict[str, float] = {}

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        with self.changed:
            self.seconds += seconds
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: all(due > self.seconds for due in self.next.values()), PATIENCE)


class FakeCamera:
    """A live source with a frame every ``period`` seconds; ``lost_at`` it hangs, or fails and cannot be opened."""

    is_live, timeout = True, None

    def __init__(self, time: Time, name: str, number: int, period: float, lost_at: float, hangs: bool):
        self.name, self._time, self._number, self._period = name, time, number, period
        self._lost_at, self._hangs, self._closed = lost_at, hangs, False

    def frames(self) -> Iterator[Frame]:
        time, index = self._time, 0
        while not self._closed:
            due = index * self._period
            if due >= self._lost_at:
                self._lose()
                return
            with time.changed:
                time.next[self.name] = due
                time.changed.notify_all()
                time.changed.wait_for(lambda due=due: time.seconds >= due or self._closed)
            image = np.full((48, 64, 3), self._number, np.uint8)
            yield Frame(index, due, image, file=self.name, time="2026-11-28T09:05:00.000Z")
            index += 1

    def _lose(self) -> None:
        with self._time.changed:
            self._time.next[self.name] = float("inf")
            self._time.changed.notify_all()
            if self._hangs:
                self._time.changed.wait_for(lambda: self._closed)
                return
        raise SourceError(f"rtsp://user:secret@{self.name}/live?pwd=secret is gone")

    def close(self) -> None:
        with self._time.changed:
            self._closed = True
            self._time.changed.notify_all()


class FakeCounter:
    """Counts as many people as the picture is bright; each count takes ``cost`` seconds of that camera."""

    parallel = 1

    def __init__(self, time: Time, cost: Callable[[int], float], until: float, end: Callable[[], None]):
        self._time, self._cost, self._until, self._end = time, cost, until, end
        self.counts: Counter[int] = Counter()

    def count(self, img: Any, *, zones: Any) -> CountResult:
        number = int(img[0, 0, 0])
        self.counts[number] += 1
        self._time.advance(self._cost(number))
        if self._time.seconds >= self._until:
            self._end()
        return counted_frame(points=np.full((number, 2), 8.5), layout=zones).result


def camera(name: str, **options: Any) -> Camera:
    return Camera(name, f"rtsp://user:secret@{name}/live", **options)
