"""Sources that write each picture where the one before lies on the device, in streams and threads of their own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from backends.cuda.foreign_arrays import KINDS, Capsule
from backends.cuda.simulated_device import PRIMARY, Queue
from backends.tensorrt.blobs import picture
from same_result import same_result

from engine.backends.cuda.driver import load_driver
from engine.errors import EngineError

PICTURES = [picture(64, 64, seed=seed) for seed in range(5)]
PRODUCER = 0x77


def _reused(make: Callable[[np.ndarray], Any], buffer: np.ndarray) -> Iterator[Any]:
    """The pictures, each in turn in ``buffer``."""
    for pixels in PICTURES:
        buffer[:] = pixels
        yield make(buffer)


# The computing stream runs as late or as soon as its events let it.
@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["batch", "stream", "live"])
def test_one_buffer_holds_all_pictures_in_turn(machine, how, kind, eager) -> None:
    here = machine(eager=(eager,))
    buffer = np.zeros((64, 64, 3), np.uint8)
    here.gpu.pictures.append(buffer)
    made = []

    def make(array: np.ndarray) -> Any:
        made.append(KINDS[kind](here.gpu, array))
        return made[-1]

    with here.counter(steps=1) as counter:
        expected = [counter.count(pixels) for pixels in PICTURES]
        source = _reused(make, buffer)
        if how == "batch":
            results = list(enumerate(counter.count_batch(source)))
        else:
            results = [(frame.index, frame.result) for frame in counter.stream(source, live=how == "live")]
        assert all(same_result(result, expected[index]) for index, result in results)
        # A live source may leave frames out, but not the last.
        assert [index for index, _ in results] == [0, 1, 2, 3, 4] or (how == "live" and results[-1][0] == 4)
    # Each was given back, whether it was counted or not.
    assert len(made) == 5
    assert all(getattr(each, "deleted", 1) == 1 for each in made)


def test_bgr_and_padded_rows_survive_the_copy(machine) -> None:
    here = machine()
    large = np.zeros((64, 100, 3), np.uint8)
    here.gpu.pictures.append(large)
    with here.counter(steps=1) as counter:
        expected = [counter.count(pixels, color="bgr") for pixels in PICTURES]
        source = _reused(lambda array: KINDS["capsule"](here.gpu, array), large[::-1, 20:84])
        frames = list(counter.stream(source, color="bgr"))
        assert all(same_result(frame.result, each) for frame, each in zip(frames, expected, strict=True))


def test_pixels_that_the_producer_s_thread_has_queued_are_waited_for(machine) -> None:
    """As PyTorch does: what a thread has queued is known by that thread alone."""
    here = machine()
    here.gpu.streams[PRODUCER] = Queue(eager=False)
    here.gpu.callers_streams[PRODUCER] = PRIMARY
    buffer = np.zeros((64, 64, 3), np.uint8)
    here.gpu.pictures.append(buffer)
    thread = threading.local()
    events = itertools.count(1 << 40)
    call = load_driver().call

    class Tensor(Capsule):
        def __dlpack__(self, *, stream=None, **versions):
            current = getattr(thread, "current", None)
            if current is not None:
                event = next(events)
                here.gpu.live[event] = "event"
                call("cuEventRecord", event, current)
                call("cuStreamWaitEvent", stream, event, 0)
                del here.gpu.live[event]
            return super().__dlpack__(stream=stream, **versions)

    def frames() -> Iterator[Tensor]:
        thread.current = PRODUCER
        for pixels in PICTURES:
            here.gpu._later(PRODUCER, lambda pixels=pixels: buffer.__setitem__(slice(None), pixels))
            yield Tensor(here.gpu, buffer)

    with here.counter(steps=1) as counter:
        expected = [counter.count(pixels) for pixels in PICTURES]
        results = [frame.result for frame in counter.stream(frames())]
        assert all(same_result(a, b) for a, b in zip(results, expected, strict=True))


def test_frames_that_nobody_counts_hold_no_memory(machine) -> None:
    here = machine()
    buffer = np.zeros((64, 64, 3), np.uint8)
    here.gpu.pictures.append(buffer)
    counted, read = threading.Event(), threading.Event()

    def frames() -> Iterator[Any]:
        for number, pixels in enumerate(PICTURES * 6):
            if number == 2:
                # The first is being counted, and the others come meanwhile.
                counted.wait()
            buffer[:] = pixels
            yield KINDS["interface"](here.gpu, buffer)
        read.set()

    with here.counter(steps=1) as counter:
        counter.count(PICTURES[0])
        before = len(here.gpu._memories)
        with counter.stream(frames(), live=True) as stream:
            next(stream)
            counted.set()
            read.wait()
            # One in the mailbox, one that is taken, and the one that the next copy frees.
            assert len(here.gpu._memories) <= before + 3
            rest = list(stream)
        assert rest[-1].index == 29
        assert stream.dropped > 20


def test_a_stream_that_is_left_or_outlives_its_counter(machine) -> None:
    here = machine()
    buffer = np.zeros((64, 64, 3), np.uint8)
    here.gpu.pictures.append(buffer)
    counter = here.counter(steps=1)
    source = (KINDS["interface"](here.gpu, buffer) for _ in range(1000))
    with counter.stream(source) as left:
        next(left)
    outliving = counter.stream(KINDS["interface"](here.gpu, buffer) for _ in range(1000))
    next(outliving)
    counter.close()
    with pytest.raises(EngineError, match="closed"):
        list(outliving)
