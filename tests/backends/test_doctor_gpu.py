"""What doctor says of a GPU, of a simulated one."""

from __future__ import annotations

import pytest

from engine.backends.cuda.driver import CudaError
from engine.cli import doctor as command
from engine.cli import gpu as doctor
from engine.cli.machine import Cuda, probe_cuda


@pytest.fixture
def report(machine, gpu_bundle, monkeypatch):
    def look(**options):
        here = machine(**options)
        monkeypatch.setattr(doctor, "load_tensorrt", lambda: here.library)
        return doctor.check_gpu(str(gpu_bundle.path))

    return look


def test_a_machine_with_everything(report) -> None:
    found = report()
    assert found.problem is None
    assert all(part.found for part in found.parts)
    details = {part.name: part.detail for part in found.parts}
    assert details["driver"] == "cuda:0 is Simulated GPU, compute capability 9.0"
    assert details["tensorrt"] == "tensorrt 10.9.0"
    assert details["kernels"] == "compiled for 9.0; this GPU runs those of 9.0"
    assert details["segments"] == "5 in float16, bfloat16"


def test_the_driver_is_asked_without_a_package(machine) -> None:
    machine()
    assert probe_cuda() == Cuda("13.1", ("Simulated GPU",), None)


def test_a_gpu_without_kernels(report) -> None:
    found = report(capability=(8, 0))
    assert "compute capability 8.0, the model's kernels were compiled for 9.0" in found.problem
    assert [part.name for part in found.parts if not part.found] == ["kernels"]


def test_a_backend_works_once_it_has_counted(machine, gpu_bundle, monkeypatch) -> None:
    """Kernels are loaded at their first use: a network that runs is not enough."""
    monkeypatch.setattr(command, "load_bundle", lambda path: gpu_bundle)
    here = machine()
    state = command.check_backend("tensorrt", {}, command._try_count)
    assert (state.works, state.detail) == (True, "tensorrt on cuda:0, float16")
    assert "cuGraphLaunch" in here.gpu.names()
    for kernel in ("unfold_heads", "write_peaks", "ddim_step"):
        here = machine()
        del here.gpu.kernels[kernel]
        state = command.check_backend("tensorrt", {}, command._try_count)
        assert not state.works, kernel
        assert CudaError("cuModuleGetFunction", 500, "CUDA_ERROR_NOT_FOUND", "error 500").args[0] in state.detail
