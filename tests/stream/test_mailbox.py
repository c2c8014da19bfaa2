"""The hand-over between the reading and the counting thread."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from engine.stream.frame import Frame
from engine.stream.mailbox import Mailbox


def frame(index: int, *warnings: str) -> Frame:
    return Frame(index, float(index), None, warnings=warnings)


def test_of_a_camera_only_the_newest_frame_is_kept_and_the_others_are_counted() -> None:
    box = Mailbox(newest=True)
    for index in range(5):
        assert box.put(frame(index, f"w{index}"))
        assert len(box) == 1
    taken = box.take()
    assert taken is not None
    assert (taken.index, taken.dropped, box.dropped) == (4, 4, 4)
    assert taken.warnings == ("w0", "w1", "w2", "w3", "w4")
    box.put(frame(5))
    taken = box.take()
    assert taken is not None
    assert (taken.index, taken.dropped, box.dropped) == (5, 0, 4)


def test_when_a_lost_camera_gave_its_last_picture_is_not_lost_with_a_frame() -> None:
    box = Mailbox(newest=True)
    for index, lost_at in enumerate([None, 0.5, None, 2.5, None]):
        box.put(replace(frame(index), lost_at=lost_at))
    assert box.take() == replace(frame(4), dropped=4, lost_at=0.5)


def test_of_a_recording_every_frame_is_delivered_and_reading_waits() -> None:
    box, put = Mailbox(newest=False), []

    def read() -> None:
        for index in range(50):
            box.put(frame(index))
            put.append(index)
        box.finish()

    reader = threading.Thread(target=read)
    reader.start()
    taken = []
    while (got := box.take()) is not None:
        # Never further ahead than the frames that may wait, and the one in hand.
        assert len(put) <= len(taken) + 4
        taken.append(got.index)
    reader.join()
    assert taken == list(range(50))
    assert box.dropped == 0


def test_an_error_comes_after_the_frames_before_it_and_once() -> None:
    box = Mailbox(newest=False)
    box.put(frame(0))
    box.finish(ValueError("broken"))
    assert box.take() is not None
    with pytest.raises(ValueError, match="broken"):
        box.take()
    assert box.take() is None


def test_waiting_ends_after_the_timeout() -> None:
    with pytest.raises(TimeoutError):
        Mailbox(newest=True).take(timeout=0.01)


@pytest.mark.parametrize("newest", [True, False])
def test_closing_frees_whoever_waits_on_either_side(newest: bool) -> None:
    full, empty = Mailbox(newest), Mailbox(newest)
    results: list[object] = []

    def fill() -> None:
        while full.put(frame(0)):
            pass
        results.append("put")

    threads = [threading.Thread(target=fill), threading.Thread(target=lambda: results.append(empty.take()))]
    for thread in threads:
        thread.start()
    full.close()
    empty.close()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert sorted(map(str, results)) == ["None", "put"]
    assert not full.put(frame(1))
    assert full.take() is None
