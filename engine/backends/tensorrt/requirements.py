"""What the backend needs of a machine and of a bundle, looked up without starting anything on the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from engine.backends.cuda.compiled import parse_kernels
from engine.backends.cuda.driver import Device, Driver, check_pools, find_device, load_driver
from engine.backends.cuda.launcher import choose_arch
from engine.backends.tensorrt.engines import segments, typed_graph
from engine.backends.tensorrt.library import TensorRT, load_tensorrt
from engine.bundle.bundle import Bundle
from engine.bundle.cubins import Cubins, load_cubins
from engine.errors import BackendError

_TYPES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Requirements:
    """All that was found.

    Attributes:
        driver: of the machine.
        device: with compiled kernels in the bundle.
        library: TensorRT or TensorRT-RTX.
        cubins: the bundle's compiled kernels.
    """

    driver: Driver
    device: Device
    library: TensorRT
    cubins: Cubins


def resolve_type(compute_type: str) -> str:
    """The type that the backend computes in.

    Raises:
        BackendError: it does not compute in ``compute_type``.

    >>> resolve_type("default")
    'float16'
    """
    if compute_type == "default":
        return _TYPES[0]
    if compute_type not in _TYPES:
        raise BackendError(f"backend 'tensorrt' computes in {', '.join(_TYPES)}, got {compute_type!r}")
    return compute_type


def check_requirements(bundle: Bundle, ordinal: int, compute_type: str) -> Requirements:
    """Look for everything, the most basic first.

    Args:
        bundle: that is to run.
        ordinal: N of "cuda:N".
        compute_type: as :func:`resolve_type` gave it.

    Raises:
        BackendError: no driver, device or TensorRT is there, or the device has no memory pools; the kernels were
            compiled for other GPUs or a newer driver, or the bundle has no segments in this type. The message says
            what to do.
        BundleError: the bundle has no compiled kernels, or damaged ones.
    """
    driver = load_driver()
    device = find_device(driver, ordinal)
    check_pools(device)
    library = load_tensorrt()
    cubins = load_cubins(bundle.path)
    arch = choose_arch({kernel.arch for kernel in parse_kernels(cubins.entries)}, device.capability)
    _check_assembler(cubins, arch, device)
    for stage in segments(bundle):
        typed_graph(bundle, stage, compute_type)
    return Requirements(driver, device, library, cubins)


def _check_assembler(cubins: Cubins, arch: int, device: Device) -> None:
    """Refuse kernels in a format that came with a later major version of CUDA than the driver's."""
    version = str(cubins.compiler.get("ptxas", {}).get(str(arch), 0))
    if int(version.partition(".")[0]) > device.driver_version[0]:
        speaks = ".".join(map(str, device.driver_version))
        raise BackendError(
            f"the model's kernels for compute capability {arch // 10}.{arch % 10} are of CUDA {version}, the driver "
            f"is of CUDA {speaks}; update the driver, or use backend='torch' or device='cpu'"
        )
