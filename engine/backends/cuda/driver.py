"""Finding the CUDA driver, and calling it: every failed call becomes an exception with the driver's own words."""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import BackendError, OutOfMemoryError

_OUT_OF_MEMORY = 2
_ADVICE = {
    "CUDA_ERROR_OUT_OF_MEMORY": "use smaller pictures or fewer samples, or close other programs on this GPU",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the kernels were compiled for other GPUs; use backend='torch'",
    "CUDA_ERROR_INVALID_IMAGE": "the kernels are damaged, or compiled for a newer driver; update the driver",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "the kernels were compiled for a newer driver; update the driver",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "this process cannot use the GPU any more; start it anew",
    "CUDA_ERROR_LAUNCH_FAILED": "this process cannot use the GPU any more; start it anew",
}


class CudaError(BackendError):
    """A call of the CUDA driver failed.

    Attributes:
        call: the driver function, such as "cuStreamCreate".
        code: its CUresult.
        name: the driver's name of the code, such as "CUDA_ERROR_INVALID_VALUE".
    """

    def __init__(self, call: str, code: int, name: str, reason: str, detail: str = ""):
        advice = f"; {_ADVICE[name]}" if name in _ADVICE else ""
        super().__init__(f"{call} failed with {name} ({reason}){detail}{advice}")
        self.call = call
        self.code = code
        self.name = name


class CudaOutOfMemoryError(CudaError, OutOfMemoryError):
    """The device, or the host for pinned memory, has not as much memory as was asked for.

    Attributes:
        asked: bytes asked for; None where the call does not take a size.
    """

    def __init__(self, call: str, code: int, name: str, reason: str, asked: int | None):
        super().__init__(call, code, name, reason, "" if asked is None else f" when asked for {asked} bytes")
        self.asked = asked


class Driver:
    """The functions of the CUDA driver, with their errors raised.

    Args:
        functions: the module ``cuda.bindings.driver``, or a stand-in with functions of the same names that
            return tuples of a CUresult and the results.
    """

    def __init__(self, functions: Any):
        self.functions = functions

    def call(self, name: str, *arguments: Any, asked: int | None = None) -> Any:
        """Call one function; handles go in as integers.

        Args:
            name: of the function.
            arguments: of the function, as cuda-bindings takes them.
            asked: bytes that the call allocates, for the message of its failure.

        Returns:
            Its only result, or None where it has none.

        Raises:
            CudaError: it did not return CUDA_SUCCESS; CudaOutOfMemoryError where memory is short.
        """
        code, *results = getattr(self.functions, name)(*arguments)
        if int(code):
            raise self._error(name, code, asked)
        return results[0] if results else None

    def _error(self, call: str, code: Any, asked: int | None) -> CudaError:
        name = self._text("cuGetErrorName", code) or f"CUresult {int(code)}"
        reason = self._text("cuGetErrorString", code) or "no description"
        if int(code) == _OUT_OF_MEMORY:
            return CudaOutOfMemoryError(call, int(code), name, reason, asked)
        return CudaError(call, int(code), name, reason)

    def _text(self, function: str, code: Any) -> str:
        failed, text = getattr(self.functions, function)(code)
        return "" if int(failed) or not text else bytes(text).decode()


@dataclass(frozen=True)
class Device:
    """What is known of a CUDA device without using it.

    Attributes:
        ordinal: N of "cuda:N".
        handle: of the driver.
        name: such as "NVIDIA H200".
        capability: compute capability, such as (9, 0).
        driver_version: newest CUDA version that the driver speaks, such as (13, 0).
        shared_memory: bytes of shared memory that one block may ask for.
        has_pools: whether it has stream-ordered memory.
    """

    ordinal: int
    handle: int
    name: str
    capability: tuple[int, int]
    driver_version: tuple[int, int]
    shared_memory: int
    has_pools: bool


def find_device(driver: Driver, ordinal: int) -> Device:
    """Look at a device without starting a context on it.

    Raises:
        BackendError: there is no such device.
    """
    driver.call("cuInit", 0)
    count = driver.call("cuDeviceGetCount")
    if not 0 <= ordinal < count:
        have = f"the devices are cuda:0 to cuda:{count - 1}" if count else "there is none"
        raise BackendError(f"device 'cuda:{ordinal}' was asked for, but {have}; choose another device")
    handle = int(driver.call("cuDeviceGet", ordinal))
    attributes = driver.functions.CUdevice_attribute

    def attribute(name: str) -> int:
        return int(driver.call("cuDeviceGetAttribute", getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}"), handle))

    version = driver.call("cuDriverGetVersion")
    return Device(
        ordinal,
        handle,
        name=bytes(driver.call("cuDeviceGetName", 256, handle)).split(b"\0")[0].decode(),
        capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
        driver_version=(version // 1000, version % 1000 // 10),
        shared_memory=attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
        has_pools=bool(attribute("MEMORY_POOLS_SUPPORTED")),
    )


def check_pools(device: Device) -> None:
    """Refuse a device without stream-ordered memory, which all device buffers come from.

    Raises:
        BackendError: it has none.
    """
    if not device.has_pools:
        raise BackendError(f"{device.name} has no stream-ordered memory pools; use backend='torch' or the CPU")


def load_driver() -> Driver:
    """The CUDA driver of this machine, by cuda-bindings.

    Raises:
        BackendError: there is no driver, no device, or no cuda-bindings; the message says what to install.
    """
    # First of all: calls through CUDA's Python packages have hung where the driver was missing.
    probe_library()
    try:
        return Driver(importlib.import_module("cuda.bindings.driver"))
    except ImportError as error:
        raise BackendError("CUDA needs the package cuda-bindings: pip install 'crowd-engine[cuda]'") from error


def probe_library(open_library: Callable[[str], Any] = ctypes.CDLL) -> None:
    """Make sure, by ctypes alone, that the driver's library loads, starts and sees a device.

    Args:
        open_library: loads a shared library by its name.

    Raises:
        BackendError: it does not.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = open_library(name)
    except OSError as error:
        raise BackendError(
            f"no NVIDIA driver: {name} cannot be loaded ({error}); install the driver "
            "(a container needs '--gpus all'), or use device='cpu'"
        ) from error
    code, count = library.cuInit(0), ctypes.c_int(0)
    if code == 0:
        code = library.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        text = ctypes.c_char_p()
        library.cuGetErrorName(code, ctypes.byref(text))
        reason = (text.value or b"an unknown error").decode() if code else "no device"
        raise BackendError(
            f"the NVIDIA driver is installed but reports {reason} (code {code}); see that nvidia-smi lists a GPU "
            "and that CUDA_VISIBLE_DEVICES does not hide it, or use device='cpu'"
        )
