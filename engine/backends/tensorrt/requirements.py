"""What the backend needs of a machine and of a bundle, looked up without starting anything on the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from engine.backends.cuda.driver import Device, Driver, find_device, load_driver
from engine.backends.cuda.launcher import choose_arch
from engine.backends.tensorrt.library import TensorRT, load_tensorrt
from engine.bundle import Bundle
from engine.cubins import Cubins, load_cubins


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
        BackendError: no driver, device or TensorRT is there, or the kernels were compiled for other GPUs; the message
            says what to install.
        BundleError: the bundle has no compiled kernels.
    """
    driver = load_driver()
    device = find_device(driver, ordinal)
    library = load_tensorrt()
    cubins = load_cubins(bundle.path)
    choose_arch({entry["arch"] for entry in cubins.entries}, device.capability)
    return Requirements(driver, device, library, cubins)
