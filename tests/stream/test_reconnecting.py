"""Live sources that are lost and connected to again, by the test's own clock; and that leave nothing open."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from cameras import PATIENCE
from videos import numbered

from engine.errors import SourceError
from engine.stream.frame import Frame
from engine.stream.live import LiveVideo, Patience
from engine.stream.opening import StreamOptions
from engine.stream.video import Picture


class Wire:
    """Connections that end after so many pictures, one a second of a clock that also moves while it is waited.

    One of a negative number of pictures gives one, and then no end of sound, a packet a second.
    """

    def __init__(self, *connections: int | str):
        self._connections = list(connections)
        self.now, self.waits, self.open = 0.0, [], 0

    def connect(self) -> Connection:
        works = self._connections.pop(0) if self._connections else "refused"
        if isinstance(works, str):
            raise SourceError(works)
        self.open += 1
        return Connection(self, works)

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return False

    def source(self, lost: Callable[[str], None] | None = None, **patience: float) -> LiveVideo:
        stop: Any = self
        first = self.connect()
        return LiveVideo("camera 1", self.connect, first, None, Patience(**patience), lambda: self.now, stop, lost=lost)


class Connection:
    def __init__(self, wire: Wire, pictures: int):
        self._wire, self._pictures = wire, pictures

    def pictures(self, check: Callable[[], None]) -> Iterator[Picture]:
        for _ in range(abs(self._pictures)):
            self._wire.now += 1
            check()
            yield Picture(None, lambda: numbered(0), ())
        while self._pictures < 0:
            self._wire.now += 1
            check()

    def close(self) -> None:
        self._wire.open -= 1


def read(source: LiveVideo) -> tuple[list[Frame], str]:
    frames: list[Frame] = []
    try:
        frames.extend(source.frames())
    except SourceError as error:
        return frames, str(error)
    return frames, ""


def test_a_lost_connection_is_made_again_and_the_next_frame_says_so(caplog) -> None:
    wire = Wire(2, "refused", "refused", 3)
    with caplog.at_level(logging.WARNING, "engine"):
        frames, problem = read(wire.source(give_up=20))
    # Numbers and times go on; 0.5 + 1 + 2 s were waited, and the frame itself came a second later.
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.timestamp for f in frames] == [0, 1, 5.5, 6.5, 7.5]
    assert frames[2].warnings == ("the connection was lost for 3.5 s (it ended)",)
    assert not any(f.warnings for f in frames if f.index != 2)
    # The last picture before it was of second 1.
    assert [f.lost_at for f in frames] == [None, None, 1, None, None]
    assert "camera 1 was lost: it ended; connecting again" in caplog.text
    assert "gave no frame for 20 s: refused" in problem
    assert wire.open == 0


def test_delays_double_up_to_the_longest_and_start_again_after_a_frame() -> None:
    wire = Wire(1, *["refused"] * 6, 1)
    read(wire.source(first_delay=1, longest_delay=8, give_up=40))
    assert wire.waits == [1, 2, 4, 8, 8, 8, 8, 1, 2, 4, 8, 8, 8, 8]


def test_a_connection_that_opens_and_gives_nothing_does_not_go_on_for_ever() -> None:
    wire = Wire(1, *[0] * 1000)
    frames, problem = read(wire.source(first_delay=1, longest_delay=8, give_up=40))
    assert len(frames) == 1
    assert "gave no frame for 40 s" in problem
    assert sum(wire.waits) <= 40


def test_connections_that_open_and_give_nothing_are_one_loss(caplog) -> None:
    wire = Wire(1, *[0] * 20, 1)
    with caplog.at_level(logging.WARNING, "engine"):
        frames, _ = read(wire.source(give_up=700))
    assert [len(f.warnings) for f in frames] == [0, 1]
    assert [line for line in caplog.messages if "was lost" in line] == [
        "camera 1 was lost: it ended; connecting again",
        "camera 1 was lost: it ended; connecting again",
    ]
    assert wire.open == 0


def test_whoever_asks_is_told_of_a_loss_in_place_of_the_log(caplog) -> None:
    wire, told = Wire(1, "refused", 0, 1), list[str]()
    read(wire.source(told.append, give_up=6))
    assert told[:3] == ["it ended", "refused", "it ended"]
    assert not caplog.messages


def test_a_connection_that_gives_all_but_pictures_is_made_again() -> None:
    wire = Wire(-1, 2)
    frames, _ = read(wire.source(timeout=5, give_up=20))
    assert [f.index for f in frames] == [0, 1, 2]
    # It is 16 s until three times the time-out is over, and 0.5 s until the next attempt.
    assert frames[1].warnings == ("the connection was lost for 16.5 s (camera 1 gave data, but no picture for 15 s)",)
    assert wire.open == 0


def test_closing_ends_a_connection_that_gives_all_but_pictures() -> None:
    wire = Wire(-1)
    source = wire.source(timeout=1e9)
    frames = source.frames()
    assert next(frames).index == 0
    wire.is_set = lambda: wire.now > 1000
    assert list(frames) == []
    assert wire.open == 0


def test_a_source_may_be_tried_for_ever() -> None:
    patience = StreamOptions(patience=Patience(give_up=math.inf)).patience
    wire = Wire(1, *["refused"] * 1000, 1)
    # Closed where it waits for the third.
    stop: Any = SimpleNamespace(is_set=wire.is_set, wait=lambda s: wire.wait(s) or not wire._connections)
    source = LiveVideo("camera", wire.connect, wire.connect(), None, patience, lambda: wire.now, stop)
    assert len(read(source)[0]) == 2
    assert wire.now > 300 * 24
    assert source.timeout == math.inf


def test_closing_while_it_waits_to_connect_again_ends_it() -> None:
    wire = Wire(1)
    stop = threading.Event()
    patience = Patience(first_delay=PATIENCE)
    source = LiveVideo("camera 1", wire.connect, wire.connect(), None, patience, lambda: 0.0, stop)
    frames = source.frames()
    assert next(frames).index == 0
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(len(list(frames))))
    thread.start()
    source.close()
    thread.join(PATIENCE / 2)
    assert done == [0]


@pytest.mark.parametrize("read_before", [True, False])
def test_closing_leaves_no_connection_open(read_before: bool) -> None:
    """Also where it comes while a connection is being made, or before anything is read."""
    wire, stop = Wire(1, 1), threading.Event()

    def connect() -> Connection:
        source.close()
        return wire.connect()

    patience = Patience(first_delay=0.001)
    source = LiveVideo("camera 1", connect, wire.connect(), None, patience, lambda: 0.0, stop)
    if not read_before:
        source.close()
    assert len(list(source.frames())) == int(read_before)
    assert wire.open == 0
