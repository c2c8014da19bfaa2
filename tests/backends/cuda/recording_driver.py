# ruff: noqa: N802 (the functions have the names of the driver)
"""A stand-in for cuda.bindings.driver: the functions that the engine calls, over a simulated device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from backends.cuda.simulated_device import (
    DEFAULT_STREAMS,
    PRIMARY,
    DriverFailureError,
    Handle,
    Queue,
    Result,
    SimulatedDevice,
)


class Wait:
    """Queued work that cannot go on before an event has happened."""

    def __init__(self, done: Callable[[], bool], event: int):
        self.event = event
        self._done = done

    def __call__(self) -> bool:
        return self._done()


class RecordingDriver(SimulatedDevice):
    """Has ``cuStreamCreate`` and so on, which return tuples as those of cuda-bindings do, and notes all calls."""

    # Errors, devices and contexts.

    def do_cuGetErrorName(self, code: Any) -> bytes:
        return Result(code).name.encode()

    def do_cuGetErrorString(self, code: Any) -> bytes:
        return f"error {int(code)}".encode()

    def do_cuInit(self, flags: int) -> None:
        assert flags == 0

    def do_cuDriverGetVersion(self) -> int:
        return 13010

    def do_cuDeviceGetCount(self) -> int:
        return 1

    def do_cuDeviceGet(self, ordinal: int) -> Handle:
        return Handle(7)

    def do_cuDeviceGetName(self, length: int, device: int) -> bytes:
        return b"Simulated GPU\0\0"

    def do_cuDeviceGetAttribute(self, attribute: int, device: int) -> int:
        return self._attributes[int(attribute)]

    def do_cuDevicePrimaryCtxRetain(self, device: int) -> Handle:
        self.retained = True
        return Handle(PRIMARY)

    def do_cuCtxPushCurrent(self, context: int) -> None:
        self._stack.append(context)

    def do_cuCtxPopCurrent(self) -> Handle:
        if not self._stack:
            raise DriverFailureError(201)
        return Handle(self._stack.pop())

    def do_cuThreadExchangeStreamCaptureMode(self, mode: Any) -> Any:
        before = self._mode
        self._threads.mode = int(mode)
        return self.CUstreamCaptureMode(before)

    # Streams and events.

    def do_cuStreamCreate(self, flags: int) -> Handle:
        stream = self._new("stream")
        self.streams[int(stream)] = Queue(eager=next(self._eager, False))
        return stream

    def do_cuStreamDestroy(self, stream: int) -> None:
        self._end(stream, "stream")
        self.finish(self.streams.pop(stream))

    def do_cuStreamSynchronize(self, stream: int) -> None:
        self._forbid_capture(stream)
        self.finish(self._queue(stream))

    def do_cuStreamGetCtx(self, stream: int) -> Handle:
        if stream not in self.callers_streams:
            raise DriverFailureError(400)
        return Handle(self.callers_streams[stream])

    def do_cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        if self._kind(event) != "event":
            raise DriverFailureError(400)
        mark = self._marks.get(event, (0, 0))[1]
        self._enqueue(stream, Wait(lambda: self._done.get(event, 0) >= mark, event))

    def do_cuEventCreate(self, flags: int) -> Handle:
        return self._new("event")

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
            while self._done.get(event, 0) < self._marks[event][1]:
                self.finish(self.streams[self._marks[event][0]])

    def do_cuEventElapsedTime(self, start: int, end: int) -> float:
        return 1.5

    # Memory.

    def CUmemPoolProps(self) -> Any:
        return SimpleNamespace(location=SimpleNamespace())

    def do_cuMemPoolCreate(self, properties: Any) -> Handle:
        assert (properties.allocType, properties.location.type, properties.location.id) == (1, 1, 0)
        return self._new("pool")

    def do_cuMemPoolSetAttribute(self, pool: int, attribute: int, value: Handle) -> None:
        assert self._kind(pool) == "pool"

    def do_cuMemPoolDestroy(self, pool: int) -> None:
        self._end(pool, "pool")

    def do_cuMemAllocFromPoolAsync(self, nbytes: int, pool: int, stream: int) -> Handle:
        assert self._kind(pool) == "pool"
        self._forbid_capture(stream)
        used = sum(len(m) for a, m in self._memories.items() if self.live[a] == "device")
        if used + nbytes > self._memory:
            raise DriverFailureError(2)
        return self._allocate("device", nbytes)

    def _allocate(self, kind: str, nbytes: int) -> Handle:
        if not nbytes:
            raise DriverFailureError(1)
        memory = (ctypes.c_uint8 * nbytes)(*b"\xcd" * min(nbytes, 4096))
        address = ctypes.addressof(memory)
        self._memories[address] = memory
        self.live[address] = kind
        return Handle(address)

    def do_cuMemFreeAsync(self, pointer: int, stream: int) -> None:
        if self._kind(pointer) != "device":
            raise DriverFailureError(1)

        def work() -> bool:
            self._end(pointer, "device")
            del self._memories[pointer]
            return True

        self._enqueue(stream, work)

    def do_cuMemAllocHost(self, nbytes: int) -> int:
        return int(self._allocate("pinned", nbytes))

    def do_cuMemFreeHost(self, pointer: int) -> None:
        self._end(pointer, "pinned")
        del self._memories[pointer]

    def do_cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> None:
        if self._is_pinned(source):
            self._move(stream, target, source, nbytes)
        else:
            # Pageable memory is read before the call returns.
            data = ctypes.string_at(source, nbytes)
            self._later(stream, lambda: ctypes.memmove(self._range(target, nbytes), data, nbytes))

    def do_cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: int) -> None:
        if self._is_pinned(target):
            self._move(stream, target, source, nbytes)
        else:
            # Pageable memory is written before the call returns.
            self._forbid_capture(stream)
            self._later(stream, lambda: ctypes.memmove(target, self._range(source, nbytes), nbytes))
            self.finish(self._queue(stream))

    def do_cuMemcpyDtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._move(stream, target, source, nbytes)

    def do_cuMemsetD8Async(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        self._later(stream, lambda: ctypes.memset(self._range(target, nbytes), byte, nbytes))

    def do_cuPointerGetAttribute(self, attribute: int, pointer: int) -> Any:
        if pointer not in self.foreign:
            raise DriverFailureError(1)
        ordinal, context = self.foreign[pointer]
        if int(attribute) == 9:
            return ordinal
        if context is None:
            raise DriverFailureError(1)
        return Handle(context)

    def _later(self, stream: int, action: Callable[[], Any]) -> None:
        def work() -> bool:
            action()
            return True

        self._enqueue(stream, work)

    # Modules and launches.

    def do_cuModuleLoadData(self, image: bytes) -> Handle:
        if not image.startswith(b"cubin"):
            raise DriverFailureError(200)
        return self._new("module")

    def do_cuModuleUnload(self, module: int) -> None:
        self._end(module, "module")

    def do_cuModuleGetFunction(self, module: int, name: bytes) -> Handle:
        if self._kind(module) != "module":
            raise DriverFailureError(400)
        if name.decode() not in self.kernels:
            raise DriverFailureError(500)
        function = next(self._handles)
        self._names[function] = name.decode()
        return Handle(function)

    def do_cuFuncSetAttribute(self, function: int, attribute: int, value: int) -> None:
        assert function in self._names

    def do_cuLaunchKernel(self, function: int, *rest: Any) -> None:
        *shape, shared, stream, parameters, extra = rest
        assert len(shape) == 6
        assert extra == 0
        name = self._names[function]
        types, run = self.kernels[name]
        addresses = (ctypes.c_void_p * len(types)).from_address(parameters)
        assert all(address % ctypes.alignment(kind) == 0 for address, kind in zip(addresses, types, strict=True))
        values = tuple(kind.from_address(address).value for address, kind in zip(addresses, types, strict=True))
        self.launches.append((name, (*shape, shared), values))
        self._later(stream, lambda: run(*values))

    # Graphs.

    def do_cuStreamBeginCapture(self, stream: int, mode: Any) -> None:
        queue = self._queue(stream)
        if stream in DEFAULT_STREAMS or queue.capture is not None:
            raise DriverFailureError(900)
        queue.capture, queue.spoiled = [], False

    def do_cuStreamEndCapture(self, stream: int) -> Handle:
        queue = self._queue(stream)
        work, queue.capture = queue.capture, None
        if work is None:
            raise DriverFailureError(1)
        if queue.spoiled or self._failing == len(self.calls) - 1:
            raise DriverFailureError(901)
        graph = self._new("graph")
        self._graphs[int(graph)] = work
        return graph

    def do_cuGraphInstantiate(self, graph: int, flags: int) -> Handle:
        if self._kind(graph) != "graph":
            raise DriverFailureError(400)
        executable = self._new("executable")
        self._graphs[int(executable)] = self._graphs[graph]
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
