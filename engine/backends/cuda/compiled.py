"""What a bundle's list of compiled kernels says of each, checked before anything is launched."""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import BackendError, BundleError

# Triton's names of kernel parameter types -> what the driver reads. Pointers start with "*".
_SCALARS: dict[str, Any] = {
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "fp32": ctypes.c_float,
    "fp64": ctypes.c_double,
}
_FLOATS = ("fp32", "fp64")
# Triton's global and profile scratch pointers, which end every parameter list.
_SCRATCH_POINTERS = 2
_SCRATCH = ("global_scratch", "profile_scratch")
# What Triton takes an argument for that it was told is divisible.
_ALIGNMENT = 16
# Triton's own limit of a block's elements.
_LARGEST_BLOCK = 1 << 20
_MOST_WARPS = 32
_ATTENTION = ("BLOCK_M", "BLOCK_N", "BLOCK_C")
# The block sizes that a launch of each kernel computes its grid and its buffers from.
_BLOCKS = {
    "criss_cross_attention.rows": _ATTENTION,
    "criss_cross_attention.columns": _ATTENTION,
    "ddim_update": ("BLOCK",),
    "find_peaks.count": ("BLOCK",),
    "find_peaks.write": ("BLOCK",),
    "head_maps": ("BLOCK",),
    "preprocess": ("BLOCK",),
}
_RENEW = "run crowd export cubins on the bundle"

Variant = Mapping[str, Any]
Key = tuple[str, frozenset[tuple[str, Any]]]


@dataclass(frozen=True)
class CompiledKernel:
    """One cubin, as the manifest describes it.

    Attributes:
        key: name and variant, as :func:`kernel_key` makes it.
        arch: compute capability it was compiled for, 10 * major + minor.
        file: that holds it, in the bundle.
        entry: its symbol.
        arguments: names and Triton types of its parameters, in order, without the two scratch pointers.
        aligned: arguments that the code takes for multiples of 16.
        blocks: sizes that it was compiled with, by name: how much of its arrays one program handles.
        warps: of 32 threads per block.
        shared: bytes of dynamic shared memory per block.
    """

    key: Key
    arch: int
    file: str
    entry: str
    arguments: tuple[tuple[str, str], ...]
    aligned: tuple[str, ...]
    blocks: Mapping[str, int]
    warps: int
    shared: int

    def pack(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters as ctypes scalars, from their values by name; pointers as integers or device buffers.

        Raises:
            BackendError: a value is missing, unknown, or does not fit its type.
        """
        names = [name for name, _ in self.arguments]
        if set(values) != set(names):
            raise BackendError(f"kernel {self.entry!r} takes {', '.join(names)}, got {', '.join(values)}")
        for name in self.aligned:
            number = operator.index(values[name])
            if number % _ALIGNMENT:
                # The device would read elsewhere, or stop this process from using it at all.
                raise BackendError(f"kernel {self.entry!r} takes {name} as a multiple of {_ALIGNMENT}, got {number}")
        packed = [_scalar(self.entry, name, kind, values[name]) for name, kind in self.arguments]
        return packed + [ctypes.c_uint64(0)] * _SCRATCH_POINTERS


def kernel_key(name: str, variant: Variant) -> Key:
    """What tells a kernel from the others of its architecture, such as "ddim_update" and {"dtype": "fp16"}."""
    return name, frozenset(variant.items())


def parse_kernels(manifest: Sequence[Mapping[str, Any]]) -> list[CompiledKernel]:
    """The entries of a bundle's list of compiled kernels, for all architectures.

    Raises:
        BundleError: an entry lacks something, or says what no kernel of this engine can be.
    """
    kernels = []
    for entry in manifest:
        try:
            kernels.append(_parse(entry))
        except KeyError as error:
            raise BundleError(f"a compiled kernel lacks {error.args[0]}: {dict(entry)}; {_RENEW}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise BundleError(f"a compiled kernel is not understood ({error}): {entry}; {_RENEW}") from error
    return kernels


def _parse(entry: Mapping[str, Any]) -> CompiledKernel:
    name = _text(entry["kernel"])
    for scratch in _SCRATCH:
        if entry[scratch]:
            raise ValueError(f"it needs {scratch} memory, which this version does not provide")
    arguments = tuple((_text(argument), _text(kind)) for argument, kind in entry["arguments"])
    for argument, kind in arguments:
        if not kind.startswith("*") and kind not in _SCALARS:
            raise ValueError(f"argument {argument} has the unknown type {kind!r}")
    aligned = tuple(_text(argument) for argument in entry["aligned"])
    if not set(aligned) <= {argument for argument, _ in arguments}:
        raise ValueError(f"it aligns {', '.join(aligned)}, which are not all arguments of it")
    variant = {
        key: value if isinstance(value, str) else _whole(value, 1 << 16) for key, value in entry["variant"].items()
    }
    return CompiledKernel(
        key=kernel_key(name, variant),
        arch=_whole(entry["arch"], 10_000),
        file=_text(entry["file"]),
        entry=_text(entry["entry"]),
        arguments=arguments,
        aligned=aligned,
        blocks=_blocks(name, variant, entry["blocks"]),
        warps=_power_of_two("num_warps", entry["num_warps"], _MOST_WARPS),
        shared=_whole(entry["shared"], 1 << 30),
    )


def _blocks(name: str, variant: Variant, blocks: Mapping[str, Any]) -> Mapping[str, int]:
    sizes = {key: _power_of_two(key, value, _LARGEST_BLOCK) for key, value in blocks.items()}
    for key in _BLOCKS.get(name, ()):
        if key not in sizes:
            raise KeyError(f"the block size {key}")
    # The kernel does not mask channels: those beyond the last whole block would be written behind the pixel.
    if "BLOCK_C" in sizes and (variant["C"] == 0 or variant["C"] % sizes["BLOCK_C"]):
        raise ValueError(f"its {variant['C']} channels are no multiple of BLOCK_C, {sizes['BLOCK_C']}")
    return sizes


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is no whole number from 0 to {most}")
    return value


def _power_of_two(name: str, value: Any, most: int) -> int:
    if _whole(value, most) < 1 or value & (value - 1):
        raise ValueError(f"{name} is {value}, expected a power of two from 1 to {most}")
    return value


def _scalar(entry: str, name: str, kind: str, value: Any) -> Any:
    """One parameter, refused where ctypes would wrap it around silently."""
    try:
        if kind in _FLOATS:
            return _SCALARS[kind](float(value))
        number = operator.index(value)
    except TypeError as error:
        raise BackendError(f"kernel {entry!r} takes {name} as {kind}, got {type(value).__name__}") from error
    scalar = (ctypes.c_uint64 if kind.startswith("*") else _SCALARS[kind])(number)
    if scalar.value != number:
        raise BackendError(f"kernel {entry!r} takes {name} as {kind}, which {number} does not fit")
    return scalar
