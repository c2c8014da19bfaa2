"""One use of each function that the CUDA layer calls, and what can be seen of it from outside."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from backends.cuda.fake_driver import FakeDriver
from backends.cuda.foreign_arrays import Interface
from backends.cuda.simulated_device import PRIMARY, Queue

from engine.backends.cuda.context import Context
from engine.backends.cuda.device_arrays import device_image
from engine.backends.cuda.double_buffer import DoubleBuffer
from engine.backends.cuda.graphs import record
from engine.backends.cuda.kernel import Kernel, Module
from engine.backends.cuda.memory import DeviceBuffer, PinnedBuffer
from engine.backends.cuda.streams import Event, Stream

PARAMETERS = [ctypes.c_uint64, ctypes.c_int8, ctypes.c_double, ctypes.c_int32, ctypes.c_float]
_PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
_CALLERS = 0x77


def fake_driver(**options: Any) -> FakeDriver:
    """A driver with the kernel that :func:`use_everything` launches: it adds its second parameter to 64 bytes."""
    driver = FakeDriver(**options)

    def add(grid: tuple[int, ...], pointer: int, number: int, *_: float) -> None:
        values = (ctypes.c_uint8 * 64).from_address(driver._range(pointer, 64))
        for index, value in enumerate(values):
            values[index] = (value + number) % 256

    driver.kernels["add"] = (PARAMETERS, add)
    driver.callers_streams[_CALLERS] = PRIMARY
    driver.streams[_CALLERS] = Queue(eager=False)
    return driver


def use_everything(driver: FakeDriver) -> list[Any]:
    """What was computed, by a program that is wrong as soon as something comes too early or lies elsewhere.

    It calls each function but those about other libraries' memory: :func:`read_a_picture` does.
    """
    seen: list[Any] = []
    with Context() as context:
        stream, start, end = Stream(context), Event(context, timing=True), Event(context, timing=True)
        buffer, other = DeviceBuffer(context, 64, stream), DeviceBuffer(context, 64, stream)
        pinned = PinnedBuffer(context, 256)
        before, after, made = (pinned.array(np.uint8, (64,), offset=offset) for offset in (0, 128, 192))
        kernel = Kernel(Module(context, b"cubin"), "add", 4, 64 * 1024)

        def work() -> None:
            stream.upload(buffer, before)
            stream.fill(other, 3)
            stream.copy(other, buffer.pointer + 8, 48, offset=16)
            kernel.launch((2, 1, 1), stream, [kind(x) for kind, x in zip(PARAMETERS, _values(other), strict=True)])
            stream.download(other, after)

        before[:] = np.arange(64)
        start.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        seen += [context.device, after.tolist(), end.milliseconds_since(start)]
        graph = record(stream, work)
        # What the graph reads is made in the stream before it.
        _add_on_the_way(context, stream, made, before)
        graph.launch(stream)
        stream.synchronize()
        seen += [after.tolist(), _upload_ahead(context, stream)]
        seen.append([(name, shape, values[1:]) for name, shape, values in driver.launches])
        # Closing waits for it.
        graph.launch(stream)
    return seen


def _values(buffer: DeviceBuffer) -> tuple[float, ...]:
    return buffer.pointer, 5, 2.5, -7, 0.5


def _add_on_the_way(context: Context, stream: Stream, made: np.ndarray, before: np.ndarray) -> None:
    """Through memory that is given back while the work that uses it is queued."""
    made[:] = np.arange(64)[::-1]
    passing = DeviceBuffer(context, 64, stream)
    stream.upload(passing, made)
    stream.download(passing, before)
    passing.close()


def _upload_ahead(context: Context, stream: Stream) -> list[list[int]]:
    """Six uploads before anything is waited for; then pageable memory, there and back."""
    target, double = DeviceBuffer(context, 64, stream), DoubleBuffer(stream)
    stream.fill(target, 0)
    for number in range(6):
        with double.use(double.upload(np.arange(number, number + 8, dtype=np.uint8))) as uploaded:
            stream.copy(target, uploaded.pointer, 8, offset=8 * number)
    # In the middle of something larger: what misses it shows.
    room = np.zeros(128, np.uint8)
    stream.upload(target, np.arange(48, dtype=np.uint8)[8:16], offset=56)
    stream.download(target, room[32:96])
    double.close()
    return room.tolist()


def read_a_picture(driver: FakeDriver) -> list[int]:
    """The caller's picture, which its stream is still writing."""
    picture, read = np.zeros_like(_PIXELS), np.empty(36, np.uint8)
    with Context() as context:
        stream = Stream(context)
        target = DeviceBuffer(context, 36, stream)
        driver._later(_CALLERS, lambda: picture.__setitem__(slice(None), _PIXELS))
        image = device_image(Interface(driver, picture), context, stream, caller=_CALLERS)
        driver._later(stream.handle, lambda: ctypes.memmove(driver._range(target.pointer, 36), image.pointer, 36))
        stream.download(target, read)
    return read.tolist()
