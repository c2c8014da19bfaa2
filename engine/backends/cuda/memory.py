"""Memory of the device, and pinned memory of the host that it copies from and to."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.backends.cuda.context import Context, Resource
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError


class DeviceBuffer(Resource):
    """Device memory from the context's pool, in the order of one stream.

    Args:
        context: of the stream.
        nbytes: at least 1.
        stream: an own one, in whose order the memory comes and goes. Another stream waits for an event in it
            before it uses the memory, and the stream waits for an event in the other one before ``close``.

    Raises:
        CudaOutOfMemoryError: the device has not as much.
        BackendError: a graph is being recorded, or the stream is the caller's.
    """

    def __init__(self, context: Context, nbytes: int, stream: Stream):
        context.check_not_recording("allocate device memory")
        if not stream.is_own:
            raise BackendError(
                "memory cannot be freed in a stream that the caller may destroy; use one of the engine's"
            )
        if nbytes < 1:
            raise BackendError(f"a device buffer needs at least 1 byte, got {nbytes}")
        with context.current():
            pointer = int(context.call("cuMemAllocFromPoolAsync", nbytes, context.pool, stream.handle, asked=nbytes))
            super().__init__(context, pointer, ("cuMemFreeAsync", pointer, stream.handle))
        self.nbytes = nbytes
        self._stream = stream
        stream.hold(pointer)

    @property
    def pointer(self) -> int:
        """Address on the device, aligned to 256 bytes."""
        return self.handle

    def __index__(self) -> int:
        return self.pointer

    def at(self, offset: int, nbytes: int) -> int:
        """Pointer to ``nbytes`` bytes, ``offset`` bytes from the start, which must lie inside."""
        if offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            raise BackendError(
                f"bytes {offset} to {offset + nbytes} are outside a device buffer of {self.nbytes} bytes"
            )
        return self.pointer + offset

    def close(self) -> None:
        try:
            super().close()
        finally:
            # Where freeing could not even be tried, the context does it later, in the same stream.
            if not self.is_held:
                self._stream.let_go(self._handle)


class PinnedBuffer(Resource):
    """Page-locked host memory, which the device copies from and to without the host's help.

    Args:
        context: of the copies.
        nbytes: at least 1.

    Raises:
        CudaOutOfMemoryError: the host has not as much that can be locked.
        BackendError: a graph is being recorded.
    """

    def __init__(self, context: Context, nbytes: int):
        context.check_not_recording("allocate pinned memory")
        if nbytes < 1:
            raise BackendError(f"a pinned buffer needs at least 1 byte, got {nbytes}")
        with context.current():
            address = int(context.call("cuMemAllocHost", nbytes, asked=nbytes))
            super().__init__(context, address, ("cuMemFreeHost", address))
        self.nbytes = nbytes

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "data": (self.handle, False), "shape": (self.nbytes,), "typestr": "|u1"}

    def array(self, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
        """A view as an array, ``offset`` bytes from the start; not to be used after ``close``."""
        size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        if offset < 0 or offset + size > self.nbytes:
            raise BackendError(f"bytes {offset} to {offset + size} are outside a pinned buffer of {self.nbytes} bytes")
        # The view refers to this object, which refers to the context, so neither is collected before the view.
        return np.asarray(self)[offset : offset + size].view(dtype).reshape(shape)
