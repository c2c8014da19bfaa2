"""What the engine finds on a machine, and whether the stand-in for the driver is true to cuda-bindings."""

from __future__ import annotations

import inspect
import sys

import pytest
from backends.cuda.recording_driver import RecordingDriver
from backends.cuda.simulated_device import RELEASES

from engine.backends.cuda.driver import load_driver, probe_library
from engine.errors import BackendError


class _Library:
    def __init__(self, init: int, devices: int):
        self._init, self._devices = init, devices

    def cuInit(self, flags):  # noqa: N802
        return self._init

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self._devices
        return 0

    def cuGetErrorName(self, code, text):  # noqa: N802
        text._obj.value = b"CUDA_ERROR_NO_DEVICE"
        return 0


def _absent(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def test_what_the_probe_says() -> None:
    probe_library(lambda name: _Library(0, 1))
    with pytest.raises(BackendError, match=r"no NVIDIA driver: libcuda\.so\.1 cannot be loaded.*device='cpu'"):
        probe_library(_absent)
    with pytest.raises(BackendError, match=r"CUDA_ERROR_NO_DEVICE \(code 100\).*nvidia-smi"):
        probe_library(lambda name: _Library(100, 0))
    with pytest.raises(BackendError, match="reports no device"):
        probe_library(lambda name: _Library(0, 0))


def test_missing_cuda_bindings_names_the_extra(monkeypatch) -> None:
    monkeypatch.setattr("engine.backends.cuda.driver.probe_library", lambda: None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(BackendError, match=r"pip install 'crowd-engine\[cuda\]'"):
        load_driver()


def test_the_stand_in_is_true_to_cuda_bindings() -> None:
    """Each function exists with as many parameters, and each constant with the same value."""
    real = pytest.importorskip("cuda.bindings.driver", reason="compares with cuda-bindings (the cuda extra)")
    functions = {name[3:]: getattr(RecordingDriver, name) for name in dir(RecordingDriver) if name.startswith("do_")}
    assert set(functions) >= RELEASES
    for name, ours in functions.items():
        signature = getattr(real, name).__doc__.split("\n")[0]
        inside = signature[signature.index("(") + 1 : signature.rindex(")")]
        count = len(inside.split(",")) if inside else 0
        if name != "cuLaunchKernel":
            assert len(inspect.signature(ours).parameters) - 1 == count, signature
        else:
            assert count == 11
    for name in dir(RecordingDriver):
        if name.startswith("CU") and name != "CUmemPoolProps":
            for member in getattr(RecordingDriver, name):
                assert int(member) == int(getattr(getattr(real, name), member.name)), member
    properties = real.CUmemPoolProps()
    properties.allocType = real.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = real.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = 0
    assert int(real.cuuint64_t(2**64 - 1)) == 2**64 - 1
