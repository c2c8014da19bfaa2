"""A libcuda.so.1 below the installed cuda-bindings: what the driver's functions do is up to a simulated device.

Once it is loaded, the bindings of this process keep its functions. Without a device they say that there is none.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

import pytest

# What each function takes: lower case goes in, upper case is where a result is written.
_KINDS = {
    "h": ctypes.c_size_t, "i": ctypes.c_int, "u": ctypes.c_uint, "b": ctypes.c_ubyte, "s": ctypes.c_char_p,
    "H": ctypes.c_size_t, "I": ctypes.c_int, "F": ctypes.c_float, "S": ctypes.c_char_p,
}  # fmt: skip
# As cuda.h declares them; "h" is any handle, address or size_t.
FUNCTIONS = {
    "cuGetErrorName": "iS", "cuGetErrorString": "iS", "cuInit": "u", "cuDriverGetVersion": "I",
    "cuDeviceGetCount": "I", "cuDeviceGet": "Ii", "cuDeviceGetName": "hii", "cuDeviceGetAttribute": "Iii",
    "cuDevicePrimaryCtxRetain": "Hi", "cuCtxPushCurrent": "h", "cuCtxPopCurrent": "H",
    "cuThreadExchangeStreamCaptureMode": "h",
    "cuStreamCreate": "Hu", "cuStreamDestroy": "h", "cuStreamSynchronize": "h", "cuStreamGetCtx": "hH",
    "cuStreamWaitEvent": "hhu", "cuStreamBeginCapture": "hi", "cuStreamEndCapture": "hH",
    "cuEventCreate": "Hu", "cuEventDestroy": "h", "cuEventRecord": "hh", "cuEventSynchronize": "h",
    "cuEventElapsedTime": "Fhh",
    "cuMemPoolCreate": "Hh", "cuMemPoolSetAttribute": "hih", "cuMemPoolDestroy": "h",
    "cuMemAllocFromPoolAsync": "Hhhh", "cuMemFreeAsync": "hh", "cuMemAllocHost": "Hh", "cuMemFreeHost": "h",
    "cuMemcpyHtoDAsync": "hhhh", "cuMemcpyDtoHAsync": "hhhh", "cuMemcpyDtoDAsync": "hhhh", "cuMemsetD8Async": "hbhh",
    "cuPointerGetAttribute": "hih",
    "cuModuleLoadData": "Hh", "cuModuleUnload": "h", "cuModuleGetFunction": "Hhs", "cuFuncSetAttribute": "hii",
    "cuLaunchKernel": "huuuuuuuhhh",
    "cuGraphInstantiateWithFlags": "Hhh", "cuGraphDestroy": "h", "cuGraphExecDestroy": "h", "cuGraphLaunch": "hh",
}  # fmt: skip
NO_DEVICE = 100


class Device(Protocol):
    """What the functions are done by: ``call`` returns a CUresult and, of success, the function's only result.

    ``live`` is what the device holds.
    """

    live: dict[int, str]

    def call(self, name: str, *arguments: Any) -> tuple[int, Any]: ...


_device: Device | None = None
# Strings that the library has given away, which callers never free.
_texts: dict[bytes, Any] = {}


def serve(device: Device | None) -> None:
    """Let ``device`` be the machine's only one from now on; None leaves it without."""
    global _device
    if _device is not None and _device.live:
        # What was forgotten of it is freed by its own functions.
        gc.collect()
    if device is not None:
        _load()
    _device = device


@functools.cache
def _load() -> None:
    if sys.platform != "linux" or not importlib.util.find_spec("cuda.bindings"):
        pytest.skip("needs cuda-bindings (the cuda extra), on Linux")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        pass
    else:
        pytest.skip("this machine has a driver of its own, which the bindings of this process call")
    folder = Path(tempfile.mkdtemp(prefix="crowd-libcuda-"))
    target = folder / "libcuda.so.1"
    # By its soname the loader later finds it for everybody who asks for the driver.
    command = ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", target, Path(__file__).with_suffix(".c")]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(target))
    target.unlink()
    folder.rmdir()
    functions = {name: _function(name, kinds) for name, kinds in FUNCTIONS.items()}
    # The older bindings ask for the function itself by which they ask.
    functions["cuGetProcAddress"] = library.cuGetProcAddress_v2

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
    def find(name: bytes) -> int | None:
        function = functions.get(name.decode())
        return None if function is None else ctypes.cast(function, ctypes.c_void_p).value

    library.crowd_serve(find)
    _KEPT.extend([library, find, functions])


# What the library calls must live as long as the process.
_KEPT: list[Any] = []


def _function(name: str, kinds: str) -> Any:
    outputs = [place for place, kind in enumerate(kinds) if kind.isupper()]
    types = [ctypes.c_size_t if kind.isupper() else _KINDS[kind] for kind in kinds]

    def run(*arguments: Any) -> int:
        inputs = [x for place, x in enumerate(arguments) if place not in outputs]
        if _device is None:
            code, result = (0, b"CUDA_ERROR_NO_DEVICE") if name.startswith("cuGetError") else (NO_DEVICE, None)
        else:
            code, result = _device.call(name, *inputs)
        for place in outputs:
            if code == 0 and arguments[place]:
                _write(arguments[place], kinds[place], result)
        return code

    return ctypes.CFUNCTYPE(ctypes.c_int, *types)(run)


def _write(address: int, kind: str, result: Any) -> None:
    if kind == "S":
        result = ctypes.addressof(_texts.setdefault(result, ctypes.create_string_buffer(result)))
        kind = "H"
    _KINDS[kind].from_address(address).value = result
