"""Runs a TensorRT engine on a stream, plainly or while a CUDA graph is recorded.

A recorded graph keeps pointers into the execution context that it was recorded from, so every graph has contexts of
its own: make a :class:`SegmentRunner` for each segment and graph, call it once plainly, then while recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from engine.backends.tensorrt.engines import SegmentEngine
from engine.bundle.array_check import check_axes
from engine.errors import BackendError


class Array(Protocol):
    """Contiguous values on the device; ``dtype`` is "float32", "float16" or "bfloat16"."""

    @property
    def pointer(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...


class Buffer(Protocol):
    """Device memory, aligned to 256 bytes; ``close`` frees it in the order of its stream."""

    @property
    def pointer(self) -> int: ...
    def close(self) -> None: ...


class _CurrentContext(Protocol):
    def current(self) -> AbstractContextManager[None]: ...


class Stream(Protocol):
    """What :class:`engine.backends.cuda.streams.Stream` offers of itself here."""

    @property
    def handle(self) -> int: ...
    @property
    def context(self) -> _CurrentContext: ...


class Workspace:
    """Scratch memory that the runners of one graph share, as they run one after the other.

    It may move until all of them have run once. A recorded graph keeps its address, so it serves no other graph.

    Args:
        allocate: makes device memory of so many bytes, in the order of the runners' stream.
    """

    def __init__(self, allocate: Callable[[int], Buffer]):
        self._allocate = allocate
        self._buffer: Buffer | None = None
        self.nbytes = 0

    @property
    def pointer(self) -> int:
        """Changes when :meth:`reserve` needs more."""
        assert self._buffer is not None
        return self._buffer.pointer

    def reserve(self, nbytes: int) -> None:
        """Have at least ``nbytes`` bytes."""
        if nbytes > self.nbytes or self._buffer is None:
            self.close()
            # A context without scratch memory still wants an address.
            wanted = max(nbytes, 1)
            self._buffer = self._allocate(wanted)
            self.nbytes = wanted

    def close(self) -> None:
        """Free it; it may be reserved again."""
        if self._buffer is not None:
            self._buffer.close()
            self._buffer, self.nbytes = None, 0


class SegmentRunner:
    """Runs a segment on one stream at one shape, that of its first call.

    It is a stage of :class:`engine.bundle.program.Program`.

    The first call makes a context and the outputs. Every later one only queues work: it may be recorded, writes the
    same outputs, and takes inputs at any address.

    Args:
        engine: of the segment.
        stream: that work is queued in, by one thread at a time; not the default stream.
        workspace: shared by the runners of the same graph.
        new_array: makes an output from a shape and a type; called in the first call only.
    """

    def __init__(
        self,
        engine: SegmentEngine,
        stream: Stream,
        workspace: Workspace,
        new_array: Callable[[tuple[int, ...], str], Array],
    ):
        self._engine, self._stream, self._workspace, self._new_array = engine, stream, workspace, new_array
        self._context: Any = None
        self._shapes: list[tuple[int, ...]] = []
        self._outputs: list[Array] = []
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)

    def __call__(self, arrays: Sequence[Array]) -> list[Array]:
        """Queue the segment.

        Raises:
            BackendError: inputs of another type or shape than the first ones, or TensorRT refuses.
            BundleError: an output has a shape that no memory can be reserved for.
        """
        self._check(arrays)
        with self._stream.context.current():
            if self._context is None:
                self._prepare(arrays)
            self._set_addresses(arrays)
            self._demand(self._context.execute_async_v3(self._stream.handle), "run the segment")
        return self._outputs

    def check_capturable(self) -> None:
        """Refuse if the stream could not record this segment; call it after the first, plain pass.

        Raises:
            BackendError: TensorRT-RTX says so. TensorRT is not asked: it has no such question.
        """
        if hasattr(self._context, "is_stream_capturable"):
            with self._stream.context.current():
                capturable = self._context.is_stream_capturable(self._stream.handle)
            self._demand(capturable, "record the segment in a CUDA graph")

    def close(self) -> None:
        """Free the context, after the graphs that were recorded from it; the outputs belong to who made them."""
        if self._context is not None:
            with self._stream.context.current():
                self._context = None
        self._outputs, self._addresses, self._scratch = [], {}, (0, 0)

    def _check(self, arrays: Sequence[Array]) -> None:
        for name, array in zip(self._engine.inputs, arrays, strict=True):
            if array.dtype != self._engine.types[name]:
                raise BackendError(f"input {name} is {array.dtype}, expected {self._engine.types[name]}")
        shapes = [tuple(x.shape) for x in arrays]
        if self._context is not None and shapes != self._shapes:
            raise BackendError(f"a runner keeps its first shapes {self._shapes}, got {shapes}; make another one")

    def _prepare(self, arrays: Sequence[Array]) -> None:
        context = self._engine.new_context()
        for name, array in zip(self._engine.inputs, arrays, strict=True):
            self._demand(context.set_input_shape(name, tuple(array.shape)), f"take {name} of shape {array.shape}")
        missing = context.infer_shapes()
        self._demand(not missing, f"tell the shapes of {missing}")
        self._workspace.reserve(context.update_device_memory_size_for_shapes())
        types = self._engine.types
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in self._engine.outputs}
        for name, shape in shapes.items():
            # TensorRT calls a length that it does not know -1.
            check_axes(self._engine.name, name, shape)
        self._outputs = [self._new_array(shape, types[name]) for name, shape in shapes.items()]
        self._shapes = [tuple(x.shape) for x in arrays]
        self._context = context

    def _set_addresses(self, arrays: Sequence[Array]) -> None:
        """Tell the context what moved since the last call."""
        scratch = (self._workspace.pointer, self._workspace.nbytes)
        if scratch != self._scratch:
            if hasattr(self._context, "set_device_memory"):
                self._context.set_device_memory(*scratch)
            else:
                self._context.device_memory = scratch[0]
            self._scratch = scratch
        names = (*self._engine.inputs, *self._engine.outputs)
        for name, array in zip(names, (*arrays, *self._outputs), strict=True):
            if self._addresses.get(name) != array.pointer:
                self._demand(self._context.set_tensor_address(name, array.pointer), f"use {name} at {array.pointer:#x}")
                self._addresses[name] = array.pointer

    def _demand(self, done: bool, action: str) -> None:
        if not done:
            library = self._engine.library
            raise BackendError(f"{library.name} cannot {action}: {library.last_errors()}")
