"""A device in host memory, for the fake driver: handles, memory, streams, captures and failing calls.

Work is queued in streams as on a device. A late stream runs only when something waits for it, an eager one as soon as
it may, so a missing event shows as wrong bytes. Device pointers are real addresses; each access is checked, and there
are guard bytes around each buffer.
"""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from backends.cuda import libcuda

PRIMARY = 0xC0
DEFAULT_STREAMS = (0, 1, 2)
# These act even if they report an error: often that of an earlier launch.
RELEASES = {
    "cuCtxPopCurrent", "cuStreamSynchronize", "cuStreamDestroy", "cuEventDestroy", "cuMemPoolDestroy",
    "cuMemFreeAsync", "cuMemFreeHost",
    "cuModuleUnload", "cuGraphDestroy", "cuGraphExecDestroy", "cuStreamEndCapture",
}  # fmt: skip
WITHOUT_CONTEXT = ("cuInit", "cuDevice", "cuDriver", "cuCtx", "cuThread")
# Forbidden in a thread that captures, unless its mode is relaxed: they spoil the capture.
UNSAFE = {"cuMemAllocHost", "cuMemFreeHost", "cuModuleLoadData", "cuModuleUnload"}
# Bytes before and behind each buffer, and what they hold; device memory is aligned to as many.
GUARD, _GUARDS, _FRESH = 256, 0xA5, 0xFF
_UNKNOWN = 999


class Result(enum.IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_FOUND = 500
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CUDA_ERROR_UNKNOWN = _UNKNOWN


# Types of a kernel's parameters, and what a launch of it does, from its grid and their values.
Function = tuple[list[Any], Callable[..., None]]


class DriverFailureError(Exception):
    """Ends a call with a result other than success."""


@dataclass
class Queue:
    """A stream: its work that has not run yet, and what it is recorded in while captured."""

    eager: bool
    work: list[Callable[[], bool]] = field(default_factory=list)
    capture: list[Callable[[], bool]] | None = None
    spoiled: bool = False


class Memory:
    """A buffer of NaN, between guard bytes."""

    def __init__(self, nbytes: int):
        raw = np.full(nbytes + 3 * GUARD, _FRESH, np.uint8)
        start = GUARD + -raw.ctypes.data % GUARD
        self._before, self.data, self._after = raw[:start], raw[start : start + nbytes], raw[start + nbytes :]
        for guard in (self._before, self._after):
            guard[:] = _GUARDS

    def __len__(self) -> int:
        return len(self.data)

    @property
    def address(self) -> int:
        return self.data.ctypes.data

    def check(self) -> None:
        """Nothing was written beside it."""
        for where, guard in (("before", self._before), ("behind", self._after)):
            assert (guard == _GUARDS).all(), f"something was written {where} a buffer of {len(self)} bytes"


class SimulatedDevice:
    """What the functions of the fake driver act on; making one puts it into the machine.

    Args:
        fail_at: number of the call, from 0, that fails; None lets all succeed.
        code: that it fails with.
        eager: for each stream, in the order of creation, whether it runs at once; later ones are late.
        capability: of the device.
        memory: bytes that all device buffers together may have.
        pools: whether it has stream-ordered memory.
    """

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
        # Kernels that modules have.
        self.kernels: dict[str, Function] = {}
        # Memory of other libraries: pointer -> (ordinal, context or None).
        self.foreign: dict[int, tuple[int, int | None]] = {}
        # The caller's streams, and the context of each.
        self.callers_streams: dict[int, int] = dict.fromkeys(DEFAULT_STREAMS, PRIMARY)
        self.live: dict[int, str] = {}
        self.streams: dict[int, Queue] = {handle: Queue(eager=True) for handle in DEFAULT_STREAMS}
        # The primary context, which nobody may give up again.
        self.retained = False
        # What no program may do, in the order in which it was done: calls that do it fail.
        self.wrong: list[BaseException] = []
        self._failing, self._code, self._memory = fail_at, code, memory
        self._attributes = {75: capability[0], 76: capability[1], 97: 232448, 115: int(pools)}
        self._eager = iter(eager)
        self._handles = itertools.count(0x1000, 0x10)
        self._memories: dict[int, Memory] = {}
        # Device memory that is not there yet.
        self._coming: set[int] = set()
        # Functions of modules; shared memory that was asked for; events that keep the time.
        self._modules: dict[int, dict[str, Function]] = {}
        self._functions: dict[int, tuple[str, Function]] = {}
        self._opted: dict[int, int] = {}
        self._timed: set[int] = set()
        self._graphs: dict[int, list[Callable[[], bool]]] = {}
        self._marks: dict[int, tuple[int, int]] = {}
        self._done: dict[int, int] = {}
        self._threads = threading.local()
        libcuda.serve(self)

    # How a call is made.

    def call(self, name: str, *arguments: Any) -> tuple[int, Any]:
        """A call of the driver, as it comes from the bindings: its CUresult, and its only result."""
        try:
            return self._call(name.removesuffix("WithFlags"), *arguments)
        except DriverFailureError as failure:
            return failure.args[0], None
        except BaseException as error:
            self.wrong.append(error)
            return _UNKNOWN, None

    def _call(self, name: str, *arguments: Any) -> tuple[int, Any]:
        action = getattr(self, f"do_{name}")
        if name.startswith("cuGetError"):
            return 0, action(*arguments)
        number = len(self.calls)
        self.calls.append((name, *arguments))
        if number == self._failing and name not in RELEASES:
            raise DriverFailureError(self._code)
        self._check_allowed(name)
        result = action(*arguments)
        if number == self._failing:
            raise DriverFailureError(self._code)
        return 0, result

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
        """Nothing is held, no context was left current, and nothing wrong was done."""
        if self.wrong:
            raise self.wrong[0]
        assert self.live == {}
        assert self._memories == {}
        assert self._stack == []

    def _new(self, kind: str) -> int:
        handle = next(self._handles)
        self.live[handle] = kind
        return handle

    def _end(self, handle: int, kind: str) -> None:
        if self._kind(handle) != kind:
            raise DriverFailureError(400)
        del self.live[handle]

    def _kind(self, handle: int) -> str | None:
        return self.live.get(handle)

    # Streams: work is a callable that returns whether it ran, or could not yet.

    def _queue(self, stream: int) -> Queue:
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

    def finish(self, queue: Queue, event: int | None = None) -> None:
        """Run all work of a stream, or that before an event; of other streams only as much as that waits for."""
        while queue.work and (event is None or self._done.get(event, 0) < self._marks[event][1]):
            if queue.work[0]():
                queue.work.pop(0)
            else:
                other: int = queue.work[0].event  # type: ignore[attr-defined]
                self.finish(self.streams[self._marks[other][0]], other)
        for memory in list(self._memories.values()):
            memory.check()

    def _forbid_capture(self, stream: int) -> None:
        queue = self._queue(stream)
        if queue.capture is not None:
            queue.spoiled = True
            raise DriverFailureError(900)

    def _range(self, pointer: int, nbytes: int) -> int:
        """The pointer, whose bytes must be those of live memory."""
        fits = (
            a <= pointer and pointer + nbytes <= a + len(m) and a not in self._coming for a, m in self._memories.items()
        )
        assert any(fits), f"{nbytes} bytes at {pointer:#x} are outside all memory"
        return pointer

    def _is_pinned(self, pointer: int) -> bool:
        return any(self.live.get(a) == "pinned" and a <= pointer < a + len(m) for a, m in self._memories.items())
