"""Kernels that were compiled ahead of time: finds the one for this device, loads it at its first use, launches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engine.backends.cuda.compiled import CompiledKernel, Key, Variant, kernel_key, parse_kernels
from engine.backends.cuda.context import Context
from engine.backends.cuda.kernel import Kernel, Module
from engine.backends.cuda.streams import Stream
from engine.errors import BackendError

# From here on Triton compiles for one architecture with its special instructions (sm_90a), which no other one runs.
_FIRST_EXACT_ARCH = 90
# Jetson boards run only what was compiled for them.
_BOARDS = (72, 87, 88)


class Launcher:
    """Launches a bundle's kernels on one device; may be used by several threads.

    Args:
        context: of the device.
        manifest: the entries of the bundle's list of compiled kernels, for all architectures.
        read: contents of a file of the bundle.

    Raises:
        BundleError: an entry is not understood.
        BackendError: there are no kernels for this device.
    """

    def __init__(self, context: Context, manifest: Sequence[Mapping[str, Any]], read: Callable[[str], bytes]):
        self._context = context
        self._read = read
        self._lock = threading.Lock()
        self._modules: dict[str, Module] = {}
        self._loaded: dict[Key, Kernel] = {}
        kernels = parse_kernels(manifest)
        self.arch = choose_arch({kernel.arch for kernel in kernels}, context.device.capability)
        self._compiled = {kernel.key: kernel for kernel in kernels if kernel.arch == self.arch}

    def find(self, name: str, variant: Variant) -> CompiledKernel:
        """What was compiled for this device.

        Args:
            name: of the kernel, such as "criss_cross_attention.rows".
            variant: it was compiled for, such as {"dtype": "fp16", "D": 32, "C": 64}.

        Raises:
            BackendError: no such kernel or variant.
        """
        compiled = self._compiled.get(kernel_key(name, variant))
        if compiled is None:
            have = sorted(f"{name} {dict(sorted(variant))}" for name, variant in self._compiled)
            raise BackendError(
                f"no kernel {name} {dict(sorted(variant.items()))} was compiled for architecture {self.arch}, only "
                f"{'; '.join(have)}; run crowd export cubins on the bundle"
            )
        return compiled

    def launch(
        self, kernel: CompiledKernel, grid: tuple[int, int, int], arguments: Mapping[str, Any], stream: Stream
    ) -> None:
        """Queue one launch; the first of each kernel also loads it, which a recording does not allow.

        Args:
            kernel: that :meth:`find` gave.
            grid: programs along x, y and z.
            arguments: values by name: device buffers or integers for pointers, integers, floats.
            stream: to queue it in.

        Raises:
            BackendError: the arguments are not the kernel's own.
            CudaError: the driver refused it.
        """
        packed = kernel.pack(arguments)
        self._load(kernel).launch(grid, stream, packed)

    def _load(self, compiled: CompiledKernel) -> Kernel:
        with self._lock:
            kernel = self._loaded.get(compiled.key)
            if kernel is None:
                module = self._modules.get(compiled.file)
                if module is None:
                    module = self._modules[compiled.file] = Module(self._context, self._read(compiled.file))
                kernel = Kernel(module, compiled.entry, compiled.warps, compiled.shared)
                self._loaded[compiled.key] = kernel
            return kernel

    def close(self) -> None:
        """Unload everything. Closing twice is harmless."""
        with self._lock:
            self._loaded.clear()
            while self._modules:
                self._modules.popitem()[1].close()


def choose_arch(compiled: set[int], capability: tuple[int, int]) -> int:
    """The architecture, of those compiled for, whose cubins a device of ``capability`` runs best.

    Its own; else, before 9.0, the newest older one of the same major version (CUDA's binary compatibility).

    Raises:
        BackendError: there is none.

    >>> choose_arch({80, 86, 90}, (8, 9))
    86
    """
    major, minor = capability
    arch = 10 * major + minor
    if arch in compiled:
        return arch
    fits = [c for c in compiled if c // 10 == major and c < arch] if arch not in _BOARDS else []
    if arch >= _FIRST_EXACT_ARCH or not fits:
        have = ", ".join(f"{c // 10}.{c % 10}" for c in sorted(compiled)) or "none"
        raise BackendError(
            f"this GPU has compute capability {major}.{minor}, the model's kernels were compiled for {have}; "
            "export the bundle for it, or use backend='torch'"
        )
    return max(fits)
