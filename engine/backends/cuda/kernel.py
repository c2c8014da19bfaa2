"""Compiled kernels as the driver knows them: modules, and functions that are launched."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from engine.backends.cuda.context import Context, Resource
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError

# CUDA guarantees 48 KB of shared memory; more has to be asked for, per kernel.
_PLAIN_SHARED_MEMORY = 48 * 1024
_WARP = 32
_GRID_LIMITS = (2**31 - 1, 65535, 65535)


class Module(Resource):
    """A loaded cubin.

    Args:
        context: to load it in.
        image: contents of the file.

    Raises:
        CudaError: it was compiled for another GPU or driver, or is damaged.
        BackendError: a graph is being recorded.
    """

    def __init__(self, context: Context, image: bytes):
        context.check_not_recording("load a module")
        with context.current():
            handle = int(context.call("cuModuleLoadData", image))
            super().__init__(context, handle, ("cuModuleUnload", handle))


class Kernel:
    """A function of a module, ready to launch.

    Args:
        module: it is in, and which must stay open.
        entry: its symbol.
        warps: of 32 threads, per block.
        shared: bytes of dynamic shared memory per block.

    Raises:
        BackendError: the device has not as much shared memory.
        CudaError: the module has no such function.
    """

    def __init__(self, module: Module, entry: str, warps: int, shared: int):
        context = module.context
        limit = context.device.shared_memory
        if shared > limit:
            raise BackendError(
                f"kernel {entry!r} needs {shared} bytes of shared memory per block, {context.device.name} has {limit}; "
                "use backend='torch'"
            )
        self._module = module
        self._block = (_WARP * warps, 1, 1)
        self._shared = shared
        self._function = int(context.call("cuModuleGetFunction", module.handle, entry.encode()))
        if shared > _PLAIN_SHARED_MEMORY:
            attributes = context.driver.functions.CUfunction_attribute
            attribute = attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            context.call("cuFuncSetAttribute", self._function, attribute, shared)

    def launch(self, grid: tuple[int, int, int], stream: Stream, arguments: Sequence[Any]) -> None:
        """Queue one launch.

        Args:
            grid: blocks along x, y and z.
            stream: to queue it in.
            arguments: ctypes scalars of exactly the kernel's parameter types, in its order. The driver copies
                their values before this returns.

        Raises:
            BackendError: the grid is empty or beyond CUDA's limits, or the module is closed.
            CudaError: the launch failed, or one before it did.
        """
        if not all(1 <= blocks <= limit for blocks, limit in zip(grid, _GRID_LIMITS, strict=True)):
            raise BackendError(f"a grid must be from (1, 1, 1) to {_GRID_LIMITS}, got {grid}")
        pointers = (ctypes.c_void_p * len(arguments))(*[ctypes.addressof(argument) for argument in arguments])
        context = self._module.context
        # A closed module has no functions any more: its handle is asked for to be told so.
        assert self._module.handle
        context.call(
            "cuLaunchKernel",
            self._function,
            *grid,
            *self._block,
            self._shared,
            stream.handle,
            ctypes.addressof(pointers),
            0,
        )
