"""Cameras: the newest frame, lost connections, time-outs; every clock is the test's own."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from cameras import PATIENCE, SteppedCamera, count_numbers
from videos import numbered

from engine.errors import SourceError
from engine.stream import opening, pipeline
from engine.stream.live import LivePictures, LiveVideo, Patience
from engine.stream.opening import StreamOptions, open_source
from engine.stream.pipeline import CountStream, FrameReader, count_frames


def stream_of(camera: SteppedCamera, meanwhile: Callable[[], None], fps: float | None = None) -> CountStream:
    source = LivePictures("camera", camera, "rgb", fps, timeout=PATIENCE, clock=camera.clock)
    reader = FrameReader(source)
    return CountStream(reader, count_frames(reader, None, None, count_numbers(meanwhile)))


@pytest.mark.parametrize("speed", [1, 2, 5])
def test_a_camera_faster_than_the_counter_loses_frames_and_never_time(speed: int) -> None:
    """While one frame is counted, ``speed`` frames come: the next counted is always the newest of them."""
    camera = SteppedCamera(period=0.1)
    ages, waiting = [], []

    def count() -> None:
        camera.produce(speed)
        waiting.append(len(stream._reader.mailbox))

    stream = stream_of(camera, count)
    camera.produce(1)
    with stream:
        for number, frame in enumerate(stream):
            assert frame.index == number * speed == frame.result.count
            assert frame.dropped == (speed - 1 if number else 0)
            # Its age when it was counted: what had come since is what came during the count.
            ages.append(camera.clock() - frame.timestamp - (speed + 1) * camera.period)
            if number == 19:
                break
        # The last count has put frames in that nobody takes any more.
        assert stream.dropped == 20 * (speed - 1)
    assert max(waiting) == 1
    assert max(ages) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("live", "is_live"), [(None, True), (True, True), (False, False)])
def test_every_frame_of_a_camera_is_counted_if_that_is_asked_for(monkeypatch, live, is_live) -> None:
    monkeypatch.setattr(opening, "VideoInput", lambda *_: SimpleNamespace(duration=None, rate=30.0))
    assert open_source(0, StreamOptions(live=live)).is_live is is_live


def test_frames_that_are_not_wanted_do_not_make_the_next_one_overdue() -> None:
    """One frame in 20 s of a camera that gives one a second: it is not late after 10."""
    assert LivePictures("camera", [], "rgb", 0.05, timeout=10.0).timeout == 30
    assert LivePictures("camera", [], "rgb", None, timeout=10.0).timeout == 10
    assert LivePictures("camera", [], "rgb", 0.05, timeout=None).timeout is None
    patience = Patience(timeout=10.0, give_up=300.0)
    assert LiveVideo("camera", lambda: None, None, 0.01, patience).timeout == 430


def test_a_camera_slower_than_the_counter_loses_nothing() -> None:
    camera = SteppedCamera()
    stream = stream_of(camera, lambda: None)
    indexes = []
    for _ in range(5):
        camera.produce(1)
        indexes.append(next(stream).index)
    camera.end()
    assert list(stream) == []
    assert indexes == [0, 1, 2, 3, 4]
    assert stream.dropped == 0


def test_frames_that_fps_leaves_out_are_not_dropped_ones() -> None:
    camera = SteppedCamera(period=0.1)
    stream = stream_of(camera, lambda: camera.produce(2), fps=5)
    camera.produce(1)
    frames = [next(stream) for _ in range(4)]
    stream.close()
    assert [f.index for f in frames] == [0, 2, 4, 6]
    assert [f.dropped for f in frames] == [0, 0, 0, 0]


def test_a_stalled_camera_is_an_error() -> None:
    camera = SteppedCamera()
    reader = FrameReader(LivePictures("the door", camera, "rgb", None, timeout=0.01))
    stream = CountStream(reader, count_frames(reader, None, None, count_numbers()))
    with pytest.raises(SourceError, match=r"the door gave no frame for 0\.01 s"):
        next(stream)
    camera.end()


def test_closing_from_another_thread_ends_the_iteration() -> None:
    camera = SteppedCamera()
    stream, seen = stream_of(camera, lambda: None), []
    consumer = threading.Thread(target=lambda: seen.extend(f.index for f in stream))
    consumer.start()
    camera.produce(1)
    stream.close()
    consumer.join(PATIENCE)
    assert not consumer.is_alive()
    assert seen in ([], [0])
    assert next(stream, None) is None
    stream.close()
    camera.end()


@pytest.mark.parametrize("counted", [0, 1])
def test_a_forgotten_stream_stops_reading(counted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-way, and before its first frame, where no generator has begun that would close the reader as it goes."""
    # It waits for the camera when it is told to stop, and ends with the next frame, not before.
    monkeypatch.setattr(pipeline, "_CLOSE_TIMEOUT", 0.0)
    numbers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    camera = map(numbered, iter(numbers.get, None))
    reader = FrameReader(LivePictures("camera", camera, "rgb", None, timeout=PATIENCE))
    stream = CountStream(reader, count_frames(reader, None, None, count_numbers()))
    for number in range(counted):
        numbers.put(number)
        assert next(stream).index == number
    thread = reader._thread
    del reader, stream
    gc.collect()
    # The camera goes on: it is the reader that ends.
    numbers.put(counted)
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_an_error_of_the_camera_reaches_whoever_counts() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield numbered(1)
        raise RuntimeError("the cable")

    reader = FrameReader(LivePictures("camera", broken(), "rgb", None, timeout=PATIENCE))
    with pytest.raises(RuntimeError, match="the cable"):
        list(CountStream(reader, count_frames(reader, None, None, count_numbers())))
