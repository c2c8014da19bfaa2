"""A simulated GPU that runs a bundle's own kernels: their Triton sources in the interpreter, on the device's memory.

Grids, block sizes, addresses and steps are what the driver was handed. Each cubin stands for its source, compiled with
the block sizes that the bundle's list says. It needs a process in which Triton was told to interpret.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from backends.cuda.fake_driver import FakeDriver
from backends.cuda.simulated_device import Function

from engine.bundle.bundle import Bundle
from engine.bundle.cubins import load_cubins
from engine.export.gpu_kernels import KernelBuild, kernel_builds

_SCALARS = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}
_POINTERS = {
    "*fp16": torch.float16, "*bf16": torch.bfloat16, "*fp32": torch.float32, "*i32": torch.int32, "*u8": torch.uint8,
}  # fmt: skip


class InterpretedGpu(FakeDriver):
    """The fake driver with the kernels of a bundle, in every type.

    Args:
        bundle: with compiled kernels for this device.
    """

    def __init__(self, bundle: Bundle, **options: Any):
        super().__init__(**options)
        cubins = load_cubins(bundle.path)
        builds = {(x.kernel, *sorted(x.variant.items())): x for x in kernel_builds(bundle)}
        self._codes: dict[bytes, dict[str, Function]] = {}
        for entry in cubins.entries:
            if entry["arch"] == 90:
                build = builds[entry["kernel"], *sorted(entry["variant"].items())]
                types = [_SCALARS.get(kind, ctypes.c_uint64) for kind in build.types.values()]
                constants = {**build.constants, **entry["blocks"]}
                run = functools.partial(_interpret, build, constants)
                self._codes[cubins.read(entry["file"])] = {entry["entry"]: ([*types, *[ctypes.c_uint64] * 2], run)}

    def functions_of(self, image: int) -> dict[str, Function]:
        """The functions of the cubin whose bytes lie at an address."""
        # An ELF file says where its two tables begin, and how long and how many their entries are.
        programs, sections = (ctypes.c_uint64 * 2).from_address(image + 32)
        program, count, section, number = (ctypes.c_uint16 * 4).from_address(image + 54)
        size = max(programs + program * count, sections + section * number)
        return self._codes[ctypes.string_at(image, size)]


def _interpret(build: KernelBuild, constants: dict[str, int], grid: tuple[int, ...], *values: Any) -> None:
    arguments = {
        name: _at(value, _POINTERS[kind]) if kind in _POINTERS else value
        for (name, kind), value in zip(build.types.items(), values, strict=False)
    }
    build.function[grid](**arguments, **constants)


def _at(pointer: int, dtype: torch.dtype) -> torch.Tensor:
    """What the interpreter takes the address and the type of."""
    return torch.frombuffer((ctypes.c_uint8 * dtype.itemsize).from_address(pointer), dtype=dtype)
