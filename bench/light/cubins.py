"""Loads each cubin of this GPU's architecture, and finds its function."""

from __future__ import annotations

from typing import Any

from engine.backends.cuda.compiled import CompiledKernel, parse_kernels
from engine.backends.cuda.context import Context
from engine.backends.cuda.kernel import Kernel, Module
from engine.backends.cuda.launcher import choose_arch
from engine.bundle.bundle import load_bundle
from engine.bundle.cubins import Cubins, load_cubins
from light.report import Report


def load_all(report: Report) -> None:
    """A row for each cubin."""
    cubins = load_cubins(load_bundle("default").path)
    kernels = parse_kernels(cubins.entries)
    with Context() as context:
        arch = choose_arch({kernel.arch for kernel in kernels}, context.device.capability)
        report.row("architecture", True, arch=arch, compiler=dict(cubins.compiler))
        for kernel in kernels:
            if kernel.arch == arch:
                report.attempt(kernel.file, lambda kernel=kernel: _load(context, cubins, kernel))


def _load(context: Context, cubins: Cubins, kernel: CompiledKernel) -> dict[str, Any]:
    module = Module(context, cubins.read(kernel.file))
    try:
        Kernel(module, kernel.entry, kernel.warps, kernel.shared)
    finally:
        module.close()
    return {"warps": kernel.warps, "shared": kernel.shared, "blocks": dict(kernel.blocks)}
