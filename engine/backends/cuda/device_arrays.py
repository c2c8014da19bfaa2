"""Pictures that lie on the device already: PyCUDA, CuPy and PyTorch arrays, taken where they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from engine.backends.cuda import dlpack
from engine.backends.cuda.context import Context
from engine.backends.cuda.driver import CudaError
from engine.backends.cuda.streams import Stream
from engine.config import ImageLimits
from engine.errors import BackendError, ImageError
from engine.image.tiles import Tile

# CUDA's own handles of the default streams, as both protocols use them.
_LEGACY_STREAM = 1
# Attribute by which each library's streams give their handle: PyCUDA, CuPy, PyTorch.
_STREAM_HANDLES = ("handle", "ptr", "cuda_stream")
# The kernel that reads pictures computes offsets within a row in int32, and takes strides as such.
_MOST_REACH = (1 << 31) - 1


@dataclass(frozen=True)
class DeviceImage:
    """An uint8 picture in device memory that another library owns.

    Attributes:
        pointer: address of pixel (0, 0), red.
        height, width: in pixels.
        strides: bytes from one row, column and channel (red, green, blue) to the next, of either sign. The
            channel's is 0 for grey pictures, so that all three channels read the same.
        owner: what keeps the memory alive.
        close: gives the memory back to its owner; to be called once the work that reads it is done.
    """

    pointer: int
    height: int
    width: int
    strides: tuple[int, int, int]
    owner: Any
    close: Callable[[], None]

    @property
    def shape(self) -> tuple[int, int, int]:
        """As of a NumPy picture: height, width and 3."""
        return self.height, self.width, 3

    def __getitem__(self, key: tuple[slice, slice]) -> DeviceImage:
        """``image[top:bottom, left:right]``: a part of it, in the same memory."""
        (top, bottom, _), (left, right, _) = key[0].indices(self.height), key[1].indices(self.width)
        pointer = self.pointer + top * self.strides[0] + left * self.strides[1]
        return replace(self, pointer=pointer, height=bottom - top, width=right - left)

    @property
    def pixels(self) -> None:
        """None: the pixels do not lie on the host."""

    def crop(self, tile: Tile) -> DeviceImage:
        """The part that a tile sees, in the same memory."""
        return self[tile.top : tile.bottom, tile.left : tile.right]


@dataclass(frozen=True)
class _View:
    """What either protocol says of an array, in bytes."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def device_image(
    source: Any,
    context: Context,
    stream: Stream,
    *,
    color: str = "rgb",
    caller: Any = None,
    limits: ImageLimits | None = None,
) -> DeviceImage:
    """Take a picture in device memory without copying it.

    Args:
        source: uint8 [H, W], [H, W, 1] or [H, W, 3], or channels first where the last axis is not 3 (a PyTorch
            tensor: where the first one is 3), with any strides. It has ``__dlpack__`` or ``__cuda_array_interface__``
            (version 2 or 3), and its pixels may not be done yet.
        context: of the device; the array must lie on the same one.
        stream: that will read it; it is made to wait for the array's own stream, and for ``caller``.
        color: order of the channels, "rgb" or "bgr".
        caller: stream that produces the array, where its library does not tell (PyCUDA does not): an integer handle, or
            a stream of PyCUDA, CuPy, PyTorch or cuda.core.
        limits: None reads ``ImageLimits()``.

    Raises:
        ImageError: wrong shape or dtype, masked, empty or too large, spread too far, or not on a device.
        BackendError: on another device or in another context, or ``caller`` is no stream.
    """
    name = f"<{type(source).__name__}>"
    with ExitStack() as on_error, context.current():
        if caller is not None:
            stream.wait_for(Stream.wrap(context, stream_handle(caller)))
        if _has_dlpack(source):
            view, close = _from_dlpack(source, name, context, stream)
            on_error.callback(close)
        else:
            view, close = _from_interface(source, name, context, stream), _nothing
        height, width, strides = _layout(view, name, first=type(source).__module__.partition(".")[0] == "torch")
        (limits or ImageLimits()).check(width, height, name)
        _check_reach(width, strides, name)
        _check_memory(view.pointer, name, context)
        on_error.pop_all()
    pointer = view.pointer
    if color == "bgr":
        # From the last channel backwards.
        pointer, strides = pointer + 2 * strides[2], (*strides[:2], -strides[2])
    return DeviceImage(pointer, height, width, strides, owner=source, close=close)


def stream_handle(stream: Any) -> int:
    """Integer handle of a stream: an integer itself, or a stream of PyCUDA, CuPy, PyTorch or cuda.core.

    Raises:
        BackendError: it is none of these.
    """
    if isinstance(stream, int) and not isinstance(stream, bool) and stream >= 0:
        # Zero is the default stream of whatever context is current; this names the same one in every context.
        return stream or _LEGACY_STREAM
    if hasattr(stream, "__cuda_stream__"):
        return stream_handle(int(stream.__cuda_stream__()[1]))
    for attribute in _STREAM_HANDLES:
        handle = getattr(stream, attribute, None)
        if isinstance(handle, int):
            return stream_handle(handle)
    raise BackendError(
        f"stream must be an integer handle or a stream of PyCUDA, CuPy, PyTorch or cuda.core, got {stream!r}"
    )


def _from_dlpack(source: Any, name: str, context: Context, stream: Stream) -> tuple[_View, Callable[[], None]]:
    kind, ordinal = (int(value) for value in source.__dlpack_device__())
    if kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        raise ImageError(
            f"{name} does not lie in CUDA memory (DLPack device type {kind}); move it to the GPU, "
            "or pass it to a counter as the host array that it is"
        )
    if ordinal != context.device.ordinal:
        _refuse_device(name, ordinal, context)
    # The producer makes the consumer's stream wait for its own.
    managed = dlpack.take(source, name, stream.handle)
    try:
        if managed.dtype != dlpack.UINT8:
            _refuse_dtype(name, "(code {}, {} bits, {} lanes)".format(*managed.dtype))
        return _View(managed.pointer, managed.shape, managed.strides), managed.close
    except BaseException:
        managed.close()
        raise


def _from_interface(source: Any, name: str, context: Context, stream: Stream) -> _View:
    try:
        interface = source.__cuda_array_interface__
        version, shape = int(interface["version"]), tuple(int(n) for n in interface["shape"])
        pointer, typestr, strides = int(interface["data"][0]), str(interface["typestr"]), interface.get("strides")
    except Exception as error:
        # Foreign code: a missing attribute, a host tensor's own error, a damaged dictionary.
        raise ImageError(
            f"{name} has no usable __cuda_array_interface__ ({type(error).__name__}: {error}); "
            "pass a PyCUDA, CuPy or PyTorch array on the GPU"
        ) from error
    if version < 2:
        raise ImageError(
            f"{name} has __cuda_array_interface__ of version {version}; expected 2 or 3: update its library"
        )
    if typestr.lstrip("|<>=") != "u1":
        _refuse_dtype(name, repr(typestr))
    if interface.get("mask") is not None:
        raise ImageError(f"{name} is masked; fill what is masked out, and pass a plain array")
    producer = interface.get("stream")
    if producer is not None:
        if int(producer) == 0:
            raise ImageError(f"{name} names stream 0, which its protocol forbids as ambiguous; use 1 or 2, or None")
        stream.wait_for(Stream.wrap(context, int(producer)))
    return _View(
        pointer, shape, dlpack.contiguous_strides(shape) if strides is None else tuple(int(n) for n in strides)
    )


def _layout(view: _View, name: str, first: bool) -> tuple[int, int, tuple[int, int, int]]:
    """Height, width and strides (row, column, channel); ``first`` prefers channels first where both fit."""
    shape, strides = view.shape, view.strides
    if len(shape) == 3 and len(strides) == 3:
        if shape[0] == 3 and (first or shape[2] not in (1, 3, 4)):
            return shape[1], shape[2], (strides[1], strides[2], strides[0])
        if shape[2] == 3:
            return shape[0], shape[1], (strides[0], strides[1], strides[2])
        if shape[2] == 1:
            return shape[0], shape[1], (strides[0], strides[1], 0)
        if shape[0] == 1 and shape[2] != 4:
            return shape[1], shape[2], (strides[1], strides[2], 0)
    if len(shape) == 2 and len(strides) == 2:
        return shape[0], shape[1], (strides[0], strides[1], 0)
    batch = "; pass the pictures of a batch one by one" if len(shape) == 4 else ""
    alpha = "; drop the fourth channel, or pass it from the host" if 4 in shape[::2] else ""
    raise ImageError(f"{name} has shape {list(shape)}; expected [H, W], [H, W, 3] or [3, H, W]{batch or alpha}")


def _check_reach(width: int, strides: tuple[int, int, int], name: str) -> None:
    """Refuse a view whose pixels lie so far apart that the kernel would read elsewhere."""
    row, column, channel = (abs(step) for step in strides)
    if max(row, column * max(width - 1, 1), 2 * channel) > _MOST_REACH:
        raise ImageError(
            f"{name} has rows, columns and channels {row}, {column} and {channel} bytes apart: its {width} columns "
            "reach further than the 2 GiB that the kernel takes; pass a contiguous copy"
        )


def _check_memory(pointer: int, name: str, context: Context) -> None:
    """Refuse a pointer that kernels of this context cannot read."""
    attributes = context.driver.functions.CUpointer_attribute
    try:
        ordinal = int(context.call("cuPointerGetAttribute", attributes.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer))
    except CudaError as error:
        raise ImageError(
            f"{name} points to memory that CUDA does not know ({error.name}); "
            "pass an array that lies on the GPU, or the host array itself"
        ) from error
    if ordinal != context.device.ordinal:
        _refuse_device(name, ordinal, context)
    try:
        owner = int(context.call("cuPointerGetAttribute", attributes.CU_POINTER_ATTRIBUTE_CONTEXT, pointer) or 0)
    except CudaError:
        # Pooled memory, such as CuPy's and PyTorch's asynchronous allocators use, belongs to no context.
        return
    if owner not in (0, context.handle):
        raise BackendError(
            f"{name} lies in another CUDA context than device {context.device.ordinal}'s primary one; "
            "with PyCUDA import pycuda.autoprimaryctx instead of pycuda.autoinit"
        )


def _refuse_device(name: str, ordinal: int, context: Context) -> None:
    raise BackendError(
        f"{name} lies on cuda:{ordinal}, the counter runs on cuda:{context.device.ordinal}; "
        f"make a CrowdCounter(device='cuda:{ordinal}'), or move the array"
    )


def _refuse_dtype(name: str, dtype: str) -> None:
    raise ImageError(
        f"{name} has dtype {dtype}; on the device only uint8 is read: scale to 0..255, round and convert it there, "
        "or pass it from the host"
    )


def _has_dlpack(source: Any) -> bool:
    return hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__")


def _nothing() -> None:
    """What there is to do for memory that was only looked at."""
