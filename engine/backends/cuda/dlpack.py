"""DLPack: taking an array out of its capsule, by ctypes, with what its header dlpack.h says of the layout."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

from engine.errors import ImageError

# Device types.
CUDA = 2
CUDA_MANAGED = 13

# Type code, bits and lanes of uint8.
UINT8 = (1, 8, 1)

_NEWEST = (1, 0)
_PLAIN, _VERSIONED = b"dltensor", b"dltensor_versioned"


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", _Deleter))


class _ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


# Copies, so that these argument types are not forced on other users of ctypes.pythonapi.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))


class ManagedArray:
    """An array that was taken from its capsule, until ``close`` gives it back.

    Attributes:
        pointer: address of the first element.
        shape: of the array.
        strides: in elements; where the producer left them out, those of a C-contiguous array.
        dtype: DLPack's type code, bits and lanes.
    """

    def __init__(self, tensor: _Tensor, release: Callable[[], None]):
        self.pointer = int(tensor.data or 0) + int(tensor.byte_offset)
        self.shape = tuple(int(tensor.shape[axis]) for axis in range(tensor.ndim))
        self.strides = _strides(tensor, self.shape)
        self.dtype = (int(tensor.code), int(tensor.bits), int(tensor.lanes))
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        """Tell the producer that the memory is not used any more. Closing twice is harmless."""
        release, self._release = self._release, None
        if release is not None:
            release()


def take(source: Any, name: str, stream: int) -> ManagedArray:
    """Take an array from an object with ``__dlpack__``; the producer makes ``stream`` wait for the pixels.

    Args:
        source: whose ``__dlpack__`` is called.
        name: of the picture, for messages.
        stream: handle of the CUDA stream that will read it.

    Raises:
        ImageError: the producer refuses, or its DLPack is of another major version.

    Source: the DLPack 1.0 specification.
    """
    try:
        try:
            capsule = source.__dlpack__(stream=stream, max_version=_NEWEST)
        except TypeError:
            # From before version 1.0.
            capsule = source.__dlpack__(stream=stream)
    except Exception as error:
        # Foreign code: a tensor that requires grad raises BufferError, others RuntimeError or their own.
        raise ImageError(
            f"{name} cannot be exported by DLPack ({error}); pass a plain array (of a tensor: its detach())"
        ) from error
    for label, layout in ((_VERSIONED, _ManagedVersioned), (_PLAIN, _Managed)):
        if _is_valid(capsule, label):
            managed = layout.from_address(_get_pointer(capsule, label))
            break
    else:
        raise ImageError(f"{name} returned {type(capsule).__name__} from __dlpack__, which is no unused DLPack capsule")
    # From now on the capsule does not delete the array.
    _set_name(capsule, _USED[label])
    release = _releaser(managed)
    if label == _VERSIONED and managed.major != _NEWEST[0]:
        version = f"{managed.major}.{managed.minor}"
        release()
        raise ImageError(f"{name} speaks DLPack {version}, expected {_NEWEST[0]}.x; update or downgrade its library")
    return ManagedArray(managed.tensor, release)


# The capsules keep pointers to their names, so these must live as long as the process.
_USED = {_PLAIN: b"used_dltensor", _VERSIONED: b"used_dltensor_versioned"}


def _releaser(managed: Any) -> Callable[[], None]:
    def release() -> None:
        if managed.deleter:
            managed.deleter(ctypes.addressof(managed))

    return release


def _strides(tensor: _Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    if tensor.strides:
        return tuple(int(tensor.strides[axis]) for axis in range(tensor.ndim))
    return contiguous_strides(shape)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
