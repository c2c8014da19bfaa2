"""A device in host memory, for the stand-in of the driver: handles, memory, streams, captures and failing calls.

Work is queued in streams as on a device. A late stream runs only when something waits for it, an eager one as soon as
it may, so a missing event shows as wrong bytes. Device pointers are real addresses; each access is checked.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PRIMARY = 0xC0
DEFAULT_STREAMS = (0, 1, 2)
# These act even if they report an error: often that of an earlier launch.
RELEASES = {
    "cuCtxPopCurrent", "cuStreamDestroy", "cuEventDestroy", "cuMemPoolDestroy", "cuMemFreeAsync", "cuMemFreeHost",
    "cuModuleUnload", "cuGraphDestroy", "cuGraphExecDestroy", "cuStreamEndCapture",
}  # fmt: skip
WITHOUT_CONTEXT = ("cuInit", "cuDevice", "cuDriver", "cuCtx", "cuThread")
# Forbidden in a thread that captures, unless its mode is relaxed: they spoil the capture.
UNSAFE = {"cuMemAllocHost", "cuMemFreeHost", "cuModuleLoadData", "cuModuleUnload"}


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class DriverFailureError(Exception):
    """Ends a call with a result other than success."""


def _enum(name: str, **values: int) -> Any:
    return enum.IntEnum(name, values)


@dataclass(frozen=True)
class Handle:
    """As those of cuda-bindings: no integer, but converts to one."""

    value: int

    def __int__(self) -> int:
        return self.value


@dataclass
class Queue:
    """A stream: its work that has not run yet, and what it is recorded in while captured."""

    eager: bool
    work: list[Callable[[], bool]] = field(default_factory=list)
    capture: list[Callable[[], bool]] | None = None
    spoiled: bool = False


class SimulatedDevice:
    """What the functions of the stand-in act on.

    Args:
        fail_at: number of the call, from 0, that fails; None lets all succeed.
        code: that it fails with.
        eager: for each stream, in the order of creation, whether it runs at once; later ones are late.
        capability: of the device.
        memory: bytes that all device buffers together may have.
    """

    CUstreamCaptureMode = _enum(
        "CUstreamCaptureMode",
        CU_STREAM_CAPTURE_MODE_GLOBAL=0,
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1,
        CU_STREAM_CAPTURE_MODE_RELAXED=2,
    )
    CUstream_flags = _enum("CUstream_flags", CU_STREAM_NON_BLOCKING=1)
    CUevent_flags = _enum("CUevent_flags", CU_EVENT_DEFAULT=0, CU_EVENT_DISABLE_TIMING=2)
    CUdevice_attribute = _enum(
        "CUdevice_attribute",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=75,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=76,
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN=97,
        CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED=115,
    )
    CUfunction_attribute = _enum("CUfunction_attribute", CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)
    CUmemPool_attribute = _enum("CUmemPool_attribute", CU_MEMPOOL_ATTR_RELEASE_THRESHOLD=4)
    CUmemAllocationType = _enum("CUmemAllocationType", CU_MEM_ALLOCATION_TYPE_PINNED=1)
    CUmemLocationType = _enum("CUmemLocationType", CU_MEM_LOCATION_TYPE_DEVICE=1)
    CUpointer_attribute = _enum(
        "CUpointer_attribute", CU_POINTER_ATTRIBUTE_CONTEXT=1, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9
    )
    cuuint64_t = Handle

    def __init__(
        self,
        fail_at: int | None = None,
        code: int = 1,
        eager: tuple[bool, ...] = (),
        capability: tuple[int, int] = (9, 0),
        memory: int = 1 << 30,
        pools: bool = True,
    ):
        self.calls: list[tuple[Any, ...]] = []
        self.launches: list[tuple[str, tuple[int, ...], tuple[Any, ...]]] = []
        # Kernels that modules have: parameter types, and what a launch does with their values.
        self.kernels: dict[str, tuple[list[Any], Callable[..., None]]] = {}
        # Memory of other libraries: pointer -> (ordinal, context or None).
        self.foreign: dict[int, tuple[int, int | None]] = {}
        # The caller's streams, and the context of each.
        self.callers_streams: dict[int, int] = dict.fromkeys(DEFAULT_STREAMS, PRIMARY)
        self.live: dict[int, str] = {}
        self.streams: dict[int, Queue] = {handle: Queue(eager=True) for handle in DEFAULT_STREAMS}
        # The primary context, which nobody may give up again.
        self.retained = False
        self._failing, self._code, self._memory = fail_at, code, memory
        self._attributes = {75: capability[0], 76: capability[1], 97: 232448, 115: int(pools)}
        self._eager = iter(eager)
        self._handles = itertools.count(0x1000, 0x10)
        self._memories: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self._graphs: dict[int, list[Callable[[], bool]]] = {}
        self._marks: dict[int, tuple[int, int]] = {}
        self._done: dict[int, int] = {}
        self._threads = threading.local()

    # How a call is made.

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        if name.startswith("__"):
            raise AttributeError(name)
        action = getattr(type(self), f"do_{name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            if name.startswith("cuGetError"):
                return Result.CUDA_SUCCESS, action(self, *arguments)
            number = len(self.calls)
            self.calls.append((name, *arguments))
            try:
                if number == self._failing and name not in RELEASES:
                    raise DriverFailureError(self._code)
                self._check_allowed(name)
                result = action(self, *arguments)
                if number == self._failing:
                    raise DriverFailureError(self._code)
            except DriverFailureError as failure:
                return Result(failure.args[0]), None
            return (Result.CUDA_SUCCESS,) if result is None else (Result.CUDA_SUCCESS, result)

        return call

    def _check_allowed(self, name: str) -> None:
        if not name.startswith(WITHOUT_CONTEXT) and (
            not self._stack or self._stack[-1] != PRIMARY or not self.retained
        ):
            raise DriverFailureError(201)
        # A copy, as other threads may make streams meanwhile.
        captured = [queue for queue in list(self.streams.values()) if queue.capture is not None]
        if name in UNSAFE and captured and self._mode != 2:
            for queue in captured:
                queue.spoiled = True
            raise DriverFailureError(900)

    @property
    def _stack(self) -> list[int]:
        return self._threads.__dict__.setdefault("stack", [])

    @property
    def _mode(self) -> int:
        return self._threads.__dict__.setdefault("mode", 0)

    def names(self) -> list[str]:
        """Names of the calls so far, without those that switch contexts."""
        return [name for name, *_ in self.calls if name not in ("cuCtxPushCurrent", "cuCtxPopCurrent")]

    def assert_clean(self) -> None:
        """Nothing is held and no context was left current."""
        assert self.live == {}
        assert self._memories == {}
        assert self._stack == []

    def _new(self, kind: str) -> Handle:
        handle = next(self._handles)
        self.live[handle] = kind
        return Handle(handle)

    def _end(self, handle: int, kind: str) -> None:
        if self._kind(handle) != kind:
            raise DriverFailureError(400)
        del self.live[handle]

    def _kind(self, handle: int) -> str | None:
        # The real functions take handle objects too; the engine promises integers.
        assert type(handle) is int
        return self.live.get(handle)

    # Streams: work is a callable that returns whether it ran, or could not yet.

    def _queue(self, stream: int) -> Queue:
        assert type(stream) is int
        if stream not in self.streams:
            raise DriverFailureError(400)
        return self.streams[stream]

    def _enqueue(self, stream: int, work: Callable[[], bool]) -> None:
        queue = self._queue(stream)
        if queue.capture is not None:
            queue.capture.append(work)
            return
        queue.work.append(work)
        if queue.eager:
            self._run(queue)

    def _run(self, queue: Queue) -> None:
        while queue.work and queue.work[0]():
            queue.work.pop(0)

    def finish(self, queue: Queue) -> None:
        """Run all work of a stream, and of other streams only as much as that waits for."""
        while queue.work:
            self._run(queue)
            if queue.work:
                event = queue.work[0].event  # type: ignore[attr-defined]
                self.finish(self.streams[self._marks[event][0]])

    def _forbid_capture(self, stream: int) -> None:
        queue = self._queue(stream)
        if queue.capture is not None:
            queue.spoiled = True
            raise DriverFailureError(900)

    def _range(self, pointer: int, nbytes: int) -> int:
        """The pointer, whose bytes must be those of live memory."""
        fits = (a <= pointer and pointer + nbytes <= a + len(m) for a, m in self._memories.items())
        assert any(fits), f"{nbytes} bytes at {pointer:#x} are outside all memory"
        return pointer

    def _move(self, stream: int, target: int, source: int, nbytes: int) -> None:
        def work() -> bool:
            ctypes.memmove(self._range(target, nbytes), self._range(source, nbytes), nbytes)
            return True

        self._enqueue(stream, work)

    def _is_pinned(self, pointer: int) -> bool:
        return any(self.live.get(a) == "pinned" and a <= pointer < a + len(m) for a, m in self._memories.items())

    def pending(self) -> Iterator[Queue]:
        """Streams with work that did not run yet."""
        return (queue for queue in self.streams.values() if queue.work)
