# ruff: noqa: N802 (the functions have the names of the driver)
"""The functions of the fake driver that allocate, copy and free."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from backends.cuda.simulated_device import DriverFailureError, Memory, SimulatedDevice


class MemoryFunctions(SimulatedDevice):
    """A method for each function, with what goes in; it returns what comes out."""

    def do_cuMemPoolCreate(self, properties: int) -> int:
        # CUmemPoolProps: allocType, handleTypes, and a location of type and id.
        assert list((ctypes.c_int * 4).from_address(properties)) == [1, 0, 1, 0]
        return self._new("pool")

    def do_cuMemPoolSetAttribute(self, pool: int, attribute: int, value: int) -> None:
        if self._kind(pool) != "pool":
            raise DriverFailureError(400)
        assert (attribute, ctypes.c_uint64.from_address(value).value) == (4, 2**64 - 1)

    def do_cuMemPoolDestroy(self, pool: int) -> None:
        self._end(pool, "pool")

    def do_cuMemAllocFromPoolAsync(self, nbytes: int, pool: int, stream: int) -> int:
        if self._kind(pool) != "pool":
            raise DriverFailureError(400)
        self._forbid_capture(stream)
        used = sum(len(m) for a, m in self._memories.items() if self.live[a] == "device")
        if used + nbytes > self._memory:
            raise DriverFailureError(2)
        pointer = self._allocate("device", nbytes)
        # No other stream may use it before this one has come so far.
        self._coming.add(pointer)
        self._later(stream, lambda: self._coming.discard(pointer))
        return pointer

    def _allocate(self, kind: str, nbytes: int) -> int:
        if not nbytes:
            raise DriverFailureError(1)
        memory = Memory(nbytes)
        self._memories[memory.address] = memory
        self.live[memory.address] = kind
        return memory.address

    def _free(self, pointer: int, kind: str) -> None:
        self._end(pointer, kind)
        self._memories.pop(pointer).check()

    def do_cuMemFreeAsync(self, pointer: int, stream: int) -> None:
        if self._kind(pointer) != "device":
            raise DriverFailureError(1)
        self._later(stream, lambda: self._free(pointer, "device"))

    def do_cuMemAllocHost(self, nbytes: int) -> int:
        return self._allocate("pinned", nbytes)

    def do_cuMemFreeHost(self, pointer: int) -> None:
        self._free(pointer, "pinned")

    def do_cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> None:
        if self._is_pinned(source):
            self._move(stream, target, source, nbytes)
        else:
            # Pageable memory is read before the call returns.
            data = ctypes.string_at(source, nbytes)
            self._later(stream, lambda: ctypes.memmove(self._range(target, nbytes), data, nbytes))

    def do_cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: int) -> None:
        if self._is_pinned(target):
            self._move(stream, target, source, nbytes)
        else:
            # Pageable memory is written before the call returns.
            self._forbid_capture(stream)
            self._later(stream, lambda: ctypes.memmove(target, self._range(source, nbytes), nbytes))
            self.finish(self._queue(stream))

    def do_cuMemcpyDtoDAsync(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self._move(stream, target, source, nbytes)

    def _move(self, stream: int, target: int, source: int, nbytes: int) -> None:
        self._later(stream, lambda: ctypes.memmove(self._range(target, nbytes), self._range(source, nbytes), nbytes))

    def do_cuMemsetD8Async(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        self._later(stream, lambda: ctypes.memset(self._range(target, nbytes), byte, nbytes))

    def do_cuPointerGetAttribute(self, result: int, attribute: int, pointer: int) -> None:
        if pointer not in self.foreign:
            raise DriverFailureError(1)
        ordinal, context = self.foreign[pointer]
        if attribute == 9:
            ctypes.c_int.from_address(result).value = ordinal
        elif attribute == 1 and context is not None:
            ctypes.c_uint64.from_address(result).value = context
        else:
            raise DriverFailureError(1)

    def _later(self, stream: int, action: Callable[[], Any]) -> None:
        def work() -> bool:
            action()
            return True

        self._enqueue(stream, work)
