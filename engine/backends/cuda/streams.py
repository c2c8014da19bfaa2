"""Streams and events, each an integer handle of its context, and the copies that streams queue."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from engine.backends.cuda.context import Context, Resource
from engine.errors import BackendError


class Buffer(Protocol):
    """Device memory that copies go to or come from: a :class:`engine.backends.cuda.memory.DeviceBuffer`."""

    nbytes: int

    @property
    def pointer(self) -> int:
        """Address on the device."""

    def at(self, offset: int, nbytes: int) -> int:
        """Pointer to ``nbytes`` bytes, ``offset`` bytes from the start, which must lie inside."""


class Event(Resource):
    """A mark in a stream, for other streams and the host to wait for.

    Args:
        context: of the streams it is recorded in.
        timing: whether it keeps the time, which makes waiting for it slower.
    """

    def __init__(self, context: Context, timing: bool = False):
        flags = context.driver.functions.CUevent_flags
        flag = flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING
        with context.current():
            handle = int(context.call("cuEventCreate", int(flag)))
            super().__init__(context, handle, ("cuEventDestroy", handle))

    def record(self, stream: Stream) -> None:
        """Mark the work that is queued in ``stream`` now; replaces an earlier mark."""
        self.context.call("cuEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        """Let the host wait for the marked work; returns at once if there was none."""
        self.context.call("cuEventSynchronize", self.handle)

    def milliseconds_since(self, start: Event) -> float:
        """Time between two events with timing, once both have happened."""
        return float(self.context.call("cuEventElapsedTime", start.handle, self.handle))


class Stream(Resource):
    """A queue of work on the device, which does not wait for the default stream.

    Args:
        context: it belongs to.
        caller: handle of a stream that the caller owns and keeps; None makes one.

    Raises:
        BackendError: the caller's stream belongs to another context.
        CudaError: it cannot be made, or is no stream.
    """

    def __init__(self, context: Context, caller: int | None = None):
        self.is_own = caller is None
        # Memory that comes and goes in its order.
        self._buffers: set[int] = set()
        if caller is None:
            flag = context.driver.functions.CUstream_flags.CU_STREAM_NON_BLOCKING
            with context.current():
                handle = int(context.call("cuStreamCreate", int(flag)))
                super().__init__(context, handle, ("cuStreamDestroy", handle))
                context.keep_for_close(handle)
            return
        owner = int(context.call("cuStreamGetCtx", caller))
        if owner != context.handle:
            raise BackendError(
                f"stream {caller:#x} is not of the primary CUDA context of cuda:{context.device.ordinal}; make it on "
                "that device, and with PyCUDA import pycuda.autoprimaryctx instead of pycuda.autoinit"
            )
        super().__init__(context, caller, None)

    @classmethod
    def wrap(cls, context: Context, handle: int) -> Stream:
        """The caller's stream: never destroyed here, and only ever waited for or made to wait."""
        return cls(context, handle)

    def synchronize(self) -> None:
        """Let the host wait until all queued work is done; errors of that work are raised here."""
        self.context.call("cuStreamSynchronize", self.handle)

    def wait(self, event: Event) -> None:
        """Let the work that is queued from now on wait for what ``event`` marks."""
        self.context.call("cuStreamWaitEvent", self.handle, event.handle, 0)

    def wait_for(self, other: Stream) -> None:
        """Let the work that is queued from now on wait for all that is queued in ``other`` now."""
        event = Event(self.context)
        try:
            event.record(other)
            self.wait(event)
        finally:
            # The driver keeps a destroyed event until nothing waits for it.
            event.close()

    def upload(self, target: Buffer, array: np.ndarray, offset: int = 0) -> None:
        """Queue a copy of a C-contiguous array to ``target``, ``offset`` bytes from its start.

        A pinned array must stay unchanged until the copy is done; another one is read before this returns.
        """
        _check_contiguous(array)
        pointer = target.at(offset, array.nbytes)
        self.context.call("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, self.handle)

    def download(self, source: Buffer, array: np.ndarray, offset: int = 0) -> None:
        """Queue a copy from ``source``, ``offset`` bytes from its start, that fills a C-contiguous array.

        A pinned array holds the values once the stream was synchronised.
        """
        _check_contiguous(array)
        if not array.flags.writeable:
            raise BackendError("cannot download into a read-only array; pass a writable one")
        pointer = source.at(offset, array.nbytes)
        self.context.call("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, self.handle)

    def copy(self, target: Buffer, source: int, nbytes: int, offset: int = 0) -> None:
        """Queue a copy from the device pointer ``source`` to ``target``, ``offset`` bytes from its start."""
        self.context.call("cuMemcpyDtoDAsync", target.at(offset, nbytes), source, nbytes, self.handle)

    def fill(self, target: Buffer, byte: int = 0) -> None:
        """Queue setting each byte of ``target``."""
        self.context.call("cuMemsetD8Async", target.pointer, byte, target.nbytes, self.handle)

    def close(self) -> None:
        """Destroy it once its work is done, unless it is the caller's; BackendError while it has device buffers."""
        if self._buffers and self.context.is_open:
            raise BackendError(f"cannot close a stream in whose order {len(self._buffers)} device buffers are freed")
        if self.is_own and not self._closed:
            self.context.forget(self._handle)
        super().close()

    def hold(self, pointer: int) -> None:
        """Device memory was allocated in its order."""
        self._buffers.add(pointer)

    def let_go(self, pointer: int) -> None:
        """Device memory was freed in its order."""
        self._buffers.discard(pointer)


def _check_contiguous(array: np.ndarray) -> None:
    if not array.flags.c_contiguous:
        raise BackendError(
            f"array of shape {array.shape} and strides {array.strides} is not C-contiguous; copy it first"
        )
