# ruff: noqa: N802 (the functions have the names of the driver)
"""A driver below the real cuda-bindings: the functions that the engine calls, over a simulated device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from backends.cuda.fake_memory import MemoryFunctions
from backends.cuda.simulated_device import (
    DEFAULT_STREAMS,
    PRIMARY,
    DriverFailureError,
    Function,
    Queue,
    Result,
)

# The driver's number of device 0.
DEVICE = 7


class Wait:
    """Queued work that cannot go on before an event has happened."""

    def __init__(self, done: Callable[[], bool], event: int):
        self.event = event
        self._done = done

    def __call__(self) -> bool:
        return self._done()


class FakeDriver(MemoryFunctions):
    """A method for each function, with what goes in; it returns what comes out. All calls are noted."""

    # Errors, devices and contexts.

    def do_cuGetErrorName(self, code: int) -> bytes:
        return Result(code).name.encode()

    def do_cuGetErrorString(self, code: int) -> bytes:
        return f"error {code}".encode()

    def do_cuInit(self, flags: int) -> None:
        if flags:
            raise DriverFailureError(1)

    def do_cuDriverGetVersion(self) -> int:
        return 13010

    def do_cuDeviceGetCount(self) -> int:
        return 1

    def do_cuDeviceGet(self, ordinal: int) -> int:
        if ordinal:
            raise DriverFailureError(101)
        return DEVICE

    def do_cuDeviceGetName(self, text: int, length: int, device: int) -> None:
        self._check_device(device)
        name = b"Simulated GPU\0"
        ctypes.memmove(text, name[:length], min(length, len(name)))

    def do_cuDeviceGetAttribute(self, attribute: int, device: int) -> int:
        self._check_device(device)
        if attribute not in self._attributes:
            raise DriverFailureError(1)
        return self._attributes[attribute]

    def do_cuDevicePrimaryCtxRetain(self, device: int) -> int:
        self._check_device(device)
        self.retained = True
        return PRIMARY

    def _check_device(self, device: int) -> None:
        if device != DEVICE:
            raise DriverFailureError(101)

    def do_cuCtxPushCurrent(self, context: int) -> None:
        self._stack.append(context)

    def do_cuCtxPopCurrent(self) -> int:
        if not self._stack:
            raise DriverFailureError(201)
        return self._stack.pop()

    def do_cuThreadExchangeStreamCaptureMode(self, address: int) -> None:
        mode = ctypes.c_int.from_address(address)
        if mode.value not in (0, 1, 2):
            raise DriverFailureError(1)
        self._threads.mode, mode.value = mode.value, self._mode

    # Streams and events.

    def do_cuStreamCreate(self, flags: int) -> int:
        assert flags == 1, "the stream waits for the default one"
        stream = self._new("stream")
        self.streams[stream] = Queue(eager=next(self._eager, False))
        return stream

    def do_cuStreamDestroy(self, stream: int) -> None:
        self._end(stream, "stream")
        self.finish(self.streams.pop(stream))

    def do_cuStreamSynchronize(self, stream: int) -> None:
        self._forbid_capture(stream)
        self.finish(self._queue(stream))

    def do_cuStreamGetCtx(self, stream: int) -> int:
        if stream not in self.callers_streams:
            raise DriverFailureError(400)
        return self.callers_streams[stream]

    def do_cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        if self._kind(event) != "event":
            raise DriverFailureError(400)
        if flags:
            raise DriverFailureError(1)
        mark = self._marks.get(event, (0, 0))[1]
        self._enqueue(stream, Wait(lambda: self._done.get(event, 0) >= mark, event))

    def do_cuEventCreate(self, flags: int) -> int:
        event = self._new("event")
        # Events made without CU_EVENT_DISABLE_TIMING.
        if flags == 0:
            self._timed.add(event)
        elif flags != 2:
            raise DriverFailureError(1)
        return event

    def do_cuEventDestroy(self, event: int) -> None:
        self._end(event, "event")

    def do_cuEventRecord(self, event: int, stream: int) -> None:
        if self._kind(event) != "event":
            raise DriverFailureError(400)
        mark = self._marks.get(event, (0, 0))[1] + 1
        self._marks[event] = (stream, mark)

        def work() -> bool:
            self._done[event] = mark
            return True

        self._enqueue(stream, work)

    def do_cuEventSynchronize(self, event: int) -> None:
        if self._kind(event) != "event":
            raise DriverFailureError(400)
        if event in self._marks:
            self._forbid_capture(self._marks[event][0])
            self.finish(self.streams[self._marks[event][0]], event)

    def do_cuEventElapsedTime(self, start: int, end: int) -> float:
        if not {start, end} <= self._timed:
            raise DriverFailureError(400)
        # Negative where they are confused.
        return 1.5 if start < end else -1.5

    # Modules and launches.

    def do_cuModuleLoadData(self, image: int) -> int:
        if ctypes.string_at(image, 5) != b"cubin" and ctypes.string_at(image, 4) != b"\x7fELF":
            raise DriverFailureError(200)
        module = self._new("module")
        self._modules[module] = self.functions_of(image)
        return module

    def functions_of(self, image: int) -> dict[str, Function]:
        """What a cubin at an address has; here it is the same in all."""
        return self.kernels

    def do_cuModuleUnload(self, module: int) -> None:
        self._end(module, "module")

    def do_cuModuleGetFunction(self, module: int, name: bytes) -> int:
        if self._kind(module) != "module":
            raise DriverFailureError(400)
        functions = self._modules[module]
        if name.decode() not in functions:
            raise DriverFailureError(500)
        function = next(self._handles)
        self._functions[function] = name.decode(), functions[name.decode()]
        return function

    def do_cuFuncSetAttribute(self, function: int, attribute: int, value: int) -> None:
        if function not in self._functions:
            raise DriverFailureError(400)
        if attribute != 8:
            raise DriverFailureError(1)
        self._opted[function] = value

    def do_cuLaunchKernel(self, function: int, *rest: Any) -> None:
        *shape, shared, stream, parameters, extra = rest
        if function not in self._functions:
            raise DriverFailureError(400)
        if extra or shared > self._opted.get(function, 48 * 1024) or min(shape) < 1:
            raise DriverFailureError(1)
        name, (types, run) = self._functions[function]
        addresses = (ctypes.c_size_t * len(types)).from_address(parameters)
        assert all(address % ctypes.alignment(kind) == 0 for address, kind in zip(addresses, types, strict=True))
        values = tuple(kind.from_address(address).value for address, kind in zip(addresses, types, strict=True))
        self.launches.append((name, (*shape, shared), values))
        self._later(stream, lambda: run(tuple(shape[:3]), *values))

    # Graphs.

    def do_cuStreamBeginCapture(self, stream: int, mode: int) -> None:
        queue = self._queue(stream)
        assert mode == 1, "other threads could not allocate meanwhile"
        if stream in DEFAULT_STREAMS or queue.capture is not None:
            raise DriverFailureError(900)
        queue.capture, queue.spoiled = [], False

    def do_cuStreamEndCapture(self, stream: int) -> int:
        queue = self._queue(stream)
        work, queue.capture = queue.capture, None
        if work is None:
            raise DriverFailureError(1)
        if queue.spoiled or self._failing == len(self.calls) - 1:
            raise DriverFailureError(901 if queue.spoiled else self._code)
        graph = self._new("graph")
        self._graphs[graph] = work
        return graph

    def do_cuGraphInstantiate(self, graph: int, flags: int) -> int:
        if self._kind(graph) != "graph":
            raise DriverFailureError(400)
        if flags:
            raise DriverFailureError(1)
        executable = self._new("executable")
        self._graphs[executable] = self._graphs[graph]
        return executable

    def do_cuGraphDestroy(self, graph: int) -> None:
        self._end(graph, "graph")

    def do_cuGraphExecDestroy(self, executable: int) -> None:
        self._end(executable, "executable")

    def do_cuGraphLaunch(self, executable: int, stream: int) -> None:
        if self._kind(executable) != "executable":
            raise DriverFailureError(400)
        for work in self._graphs[executable]:
            self._enqueue(stream, work)
