"""What the backend needs of a machine and of a bundle, looked up without starting anything on the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from engine.backends.cuda.driver import Device, Driver, find_device, load_driver
from engine.backends.cuda.launcher import check_entries, choose_arch
from engine.backends.tensorrt.library import TensorRT, load_tensorrt
from engine.bundle import Bundle
from engine.cubins import Cubins, load_cubins
from engine.errors import BackendError


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


def check_requirements(bundle: Bundle, ordinal: int) -> Requirements:
    """Look for everything, the most basic first.

    Args:
        bundle: that is to run.
        ordinal: N of "cuda:N".

    Raises:
        BackendError: no driver, device or TensorRT is there, or the kernels were compiled for other GPUs or a newer
            driver; the message says what to install.
        BundleError: the bundle has no compiled kernels, or damaged ones.
    """
    driver = load_driver()
    device = find_device(driver, ordinal)
    library = load_tensorrt()
    cubins = load_cubins(bundle.path)
    arch = choose_arch({entry["arch"] for entry in check_entries(cubins.entries)}, device.capability)
    _check_assembler(cubins, arch, device)
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
