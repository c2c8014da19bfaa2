"""Arrays in device memory, and their values on the host: NumPy has no bfloat16."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import EllipsisType

import numpy as np

from engine.backends.cuda.memory import DeviceBuffer
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError

# How the host holds each type; of bfloat16 it holds the bits.
_STORED = {
    "uint8": np.uint8,
    "int32": np.int32,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
}


@dataclass(frozen=True)
class DeviceArray:
    """An array in device memory: C-contiguous, or some channels of one whose last axis is channels.

    Attributes:
        pointer: address of the first element.
        shape: of the array.
        dtype: "float32", "float16", "bfloat16", "int32" or "uint8".
        step: elements from one pixel, of ``shape[-1]`` channels, to the next.
        buffer: memory that it lies in.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    step: int
    buffer: DeviceBuffer

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, were they contiguous."""
        return math.prod(self.shape) * np.dtype(_STORED[self.dtype]).itemsize

    def __getitem__(self, key: tuple[EllipsisType, slice]) -> DeviceArray:
        """``array[..., start:stop]``: a view of some channels."""
        dots, channels = key
        start, stop, step = channels.indices(self.shape[-1])
        assert dots is Ellipsis
        assert step == 1
        pointer = self.pointer + start * np.dtype(_STORED[self.dtype]).itemsize
        return replace(self, pointer=pointer, shape=(*self.shape[:-1], stop - start))


class DeviceMemory:
    """Device arrays that are freed together.

    Args:
        stream: in whose order the memory comes and goes.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self._buffers: list[DeviceBuffer] = []

    def new(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """An array with any contents.

        Raises:
            CudaOutOfMemoryError: the device has not as much memory.
            BackendError: a graph is being recorded, or a length is negative.
        """
        if min(shape, default=0) < 0:
            raise BackendError(f"an array on the device cannot have shape {shape}; expected no length below 0")
        nbytes = math.prod(shape) * np.dtype(_STORED[dtype]).itemsize
        # An array of no elements has an address too: the driver gives none for nothing.
        buffer = DeviceBuffer(self._stream.context, max(nbytes, 1), self._stream)
        self._buffers.append(buffer)
        return DeviceArray(buffer.pointer, tuple(shape), dtype, shape[-1], buffer)

    def upload(self, values: np.ndarray, dtype: str) -> DeviceArray:
        """A new array with the values of a float array, rounded to ``dtype``."""
        array = self.new(values.shape, dtype)
        self._stream.upload(array.buffer, to_storage(values, dtype))
        return array

    def close(self) -> None:
        """Free all arrays. Closing twice is harmless."""
        while self._buffers:
            self._buffers.pop().close()


def download(array: DeviceArray, stream: Stream) -> np.ndarray:
    """The values of a contiguous array on the host, half types as float32; waits for the stream's work."""
    stored = np.empty(array.shape, _STORED[array.dtype])
    stream.download(array.buffer, stored, array.pointer - array.buffer.pointer)
    stream.synchronize()
    return from_storage(stored, array.dtype)


def to_storage(values: np.ndarray, dtype: str) -> np.ndarray:
    """Values as the device holds them, C-contiguous; rounded to the nearest, ties to even.

    >>> hex(int(to_storage(np.array([1.00390625, 1.01171875]), "bfloat16")[1]))
    '0x3f82'
    """
    if dtype != "bfloat16":
        return np.ascontiguousarray(values, _STORED[dtype])
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Half a unit of the kept digits, less a bit where they are even, carries into them.
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    # NaN must not carry over to infinity.
    quiet = ((bits >> 16) | 0x40).astype(np.uint16)
    return np.where(np.isnan(values), quiet, rounded)


def from_storage(stored: np.ndarray, dtype: str) -> np.ndarray:
    """The values of what the device holds, half types as float32.

    >>> from_storage(np.array([0x3F80, 0xC000], np.uint16), "bfloat16").tolist()
    [1.0, -2.0]
    """
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32) if dtype == "float16" else stored
