"""Uploads that run beside the computation: the bytes, under every order in which the streams may run."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from backends.cuda.fake_driver import FakeDriver

from engine.backends.cuda.context import Context
from engine.backends.cuda.double_buffer import DoubleBuffer
from engine.backends.cuda.driver import CudaError
from engine.backends.cuda.memory import DeviceBuffer, PinnedBuffer
from engine.backends.cuda.streams import Stream

LENGTHS = [5, 5, 300, 7, 1, 301, 301, 2]


def _batch(context: Context, lengths: list[int]) -> list[list[int]]:
    """Each array doubled on its way: uploaded, copied on the device, downloaded."""
    with context:
        stream = Stream(context)
        results = PinnedBuffer(context, 2 * max(lengths))
        target = DeviceBuffer(context, max(lengths), stream)

        def launch(buffer: DeviceBuffer, array: np.ndarray) -> int:
            stream.copy(target, buffer.pointer, array.nbytes)
            stream.download(target, results.array(np.uint8, (array.nbytes,)))
            return array.nbytes

        def collect(nbytes: int) -> list[int]:
            stream.synchronize()
            return results.array(np.uint8, (nbytes,)).tolist()

        arrays = (np.full(length, n, np.uint8) for n, length in enumerate(lengths))
        double = DoubleBuffer(stream)
        counted = []
        running = None
        for array in arrays:
            slot = double.upload(array)
            if running is not None:
                counted.append(collect(running))
            with double.use(slot) as buffer:
                running = launch(buffer, array)
        counted.append(collect(running))
        double.close()
        double.close()
        return counted


# Each stream runs as late or as soon as its events let it.
@pytest.mark.parametrize("eager", list(itertools.product([False, True], repeat=2)))
def test_every_order_gives_the_same_bytes(eager) -> None:
    driver = FakeDriver(eager=eager)
    assert _batch(Context(), LENGTHS) == [[n] * length for n, length in enumerate(LENGTHS)]
    driver.assert_clean()


@pytest.mark.parametrize("dropped", ["uploaded", "consumed", "host"])
def test_the_stand_in_notices_a_missing_wait(monkeypatch, dropped) -> None:
    """The test above proves nothing unless it fails without each of the three waits."""
    if dropped == "host":
        monkeypatch.setattr(FakeDriver, "do_cuEventSynchronize", lambda self, event: None)
    else:
        real = FakeDriver.do_cuStreamWaitEvent
        # Streams are made in this order: the computing one, then the copying one.
        ignored = {"uploaded": 0, "consumed": 1}[dropped]

        def wait(self, stream, event, flags):
            if stream != sorted(h for h, kind in self.live.items() if kind == "stream")[ignored]:
                real(self, stream, event, flags)

        monkeypatch.setattr(FakeDriver, "do_cuStreamWaitEvent", wait)
    expected = [[n] * 5 for n in range(6)]
    right = []
    for eager in itertools.product([False, True], repeat=2):
        try:
            driver = FakeDriver(eager=eager)
            right.append(_overwritten(Context()) == expected and not driver.wrong)
        except CudaError:
            right.append(False)
    assert not all(right)


def _overwritten(context: Context) -> list[list[int]]:
    """Three uploads before any result is waited for: results lie side by side."""
    with context:
        stream = Stream(context)
        results = PinnedBuffer(context, 64)
        double = DoubleBuffer(stream)
        for n in range(6):
            with double.use(double.upload(np.full(5, n, np.uint8))) as buffer:
                stream.download(buffer, results.array(np.uint8, (5,), offset=5 * n))
        stream.synchronize()
        return [results.array(np.uint8, (5,), offset=5 * n).tolist() for n in range(6)]


@pytest.mark.parametrize("eager", list(itertools.product([False, True], repeat=2)))
def test_running_ahead_gives_the_same_bytes(eager) -> None:
    driver = FakeDriver(eager=eager)
    assert _overwritten(Context()) == [[n] * 5 for n in range(6)]
    driver.assert_clean()


def test_memory_is_asked_for_once() -> None:
    driver = FakeDriver()
    _batch(Context(), [8] * 20)
    # One target, and one for each slot.
    assert driver.names().count("cuMemAllocFromPoolAsync") == 3
    assert driver.names().count("cuMemAllocHost") == 3


@pytest.mark.gpu
def test_a_batch_on_the_device() -> None:
    lengths = [1 << 20, 3, 1 << 22, 1 << 22, 1 << 21]
    assert _batch(Context(), lengths) == [[n] * length for n, length in enumerate(lengths)]


@pytest.mark.gpu
def test_running_ahead_on_the_device() -> None:
    assert _overwritten(Context()) == [[n] * 5 for n in range(6)]
