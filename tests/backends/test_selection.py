"""Which backend "auto" takes, and what is said where the one asked for cannot run."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from backends.tensorrt.simulated_gpu import SimulatedGpu

import engine
from engine.backends.cuda.driver import probe_library
from engine.backends.registry import resolve_backend
from engine.backends.tensorrt import requirements
from engine.backends.tensorrt.library import find_tensorrt
from engine.bundle.bundle import SegmentStage, write_manifest
from engine.bundle.cubins import CUBINS_FILE
from engine.config import CounterConfig
from engine.errors import BackendError, BundleError


def _nothing(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


@pytest.fixture
def without_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(requirements, "load_driver", lambda: probe_library(_nothing))


def _resolve(bundle, **arguments) -> str:
    return resolve_backend(bundle, CounterConfig(**arguments))


@pytest.mark.usefixtures("without_driver")
def test_without_a_driver_auto_is_the_cpu_and_says_why(gpu_bundle, caplog) -> None:
    with caplog.at_level(logging.INFO, "engine"):
        assert _resolve(gpu_bundle) == "openvino"
    assert "no NVIDIA driver" in caplog.text
    with engine.CrowdCounter(gpu_bundle.path) as counter:
        assert "openvino on cpu" in repr(counter)


@pytest.mark.usefixtures("without_driver")
@pytest.mark.parametrize("arguments", [{"device": "cuda"}, {"device": "cuda:3"}, {"backend": "tensorrt"}], ids=str)
def test_without_a_driver_a_gpu_is_refused_at_once(gpu_bundle, arguments) -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA driver.*install the driver.*device='cpu'"):
        engine.CrowdCounter(gpu_bundle.path, **arguments)


def test_with_everything_auto_is_the_gpu(machine, gpu_bundle, tmp_path) -> None:
    machine()
    assert _resolve(gpu_bundle) == "tensorrt"
    assert _resolve(gpu_bundle, compute_type="bfloat16") == "tensorrt"
    # The first is for the CPU, the second was asked for.
    assert _resolve(gpu_bundle, compute_type="float32") == "openvino"
    assert _resolve(gpu_bundle, device="cpu") == "openvino"
    with engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path) as counter:
        assert "tensorrt on cuda:0" in repr(counter)


def test_without_tensorrt(machine, gpu_bundle, monkeypatch) -> None:
    machine()

    def absent() -> None:
        find_tensorrt(_absent_module)

    monkeypatch.setattr(requirements, "load_tensorrt", absent)
    assert _resolve(gpu_bundle) == "openvino"
    with pytest.raises(BackendError, match=r"no TensorRT is installed.*pip install .crowd-engine.tensorrt"):
        engine.CrowdCounter(gpu_bundle.path, device="cuda")


def _absent_module(name: str) -> None:
    raise ImportError(f"No module named {name!r}")


def test_without_compiled_kernels(machine, gpu_bundle, tmp_path: Path) -> None:
    machine()
    folder = tmp_path / "bare"
    shutil.copytree(gpu_bundle.path, folder)
    (folder / CUBINS_FILE).unlink()
    bare = write_manifest(
        folder, name="bare", model=gpu_bundle.model, default_steps=3, counting=gpu_bundle.counting,
        programs=gpu_bundle.programs,
    )  # fmt: skip
    assert _resolve(bare) == "openvino"
    with pytest.raises(BundleError, match="crowd export cubins"):
        engine.CrowdCounter(folder, device="cuda")


def test_gpus_that_the_kernels_were_not_compiled_for(machine, gpu_bundle) -> None:
    machine(capability=(7, 5))
    assert _resolve(gpu_bundle) == "openvino"
    with pytest.raises(BackendError, match=r"capability 7\.5, the model's kernels were compiled for 9\.0"):
        engine.CrowdCounter(gpu_bundle.path, device="cuda")


def test_gpus_that_tensorrt_rtx_cannot_be_told_of(machine, gpu_bundle, tmp_path) -> None:
    here = machine(rtx=True)
    del here.api.ComputeCapability.__members__["SM90"]
    with engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path) as counter:
        assert "tensorrt on cuda:0" in repr(counter)


def test_engines_that_the_runtime_refuses(machine, gpu_bundle, tmp_path, caplog) -> None:
    here = machine(rtx=True)
    here.api.validity = (2, 2)
    with engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path) as counter:
        assert "openvino on cpu" in repr(counter)
    assert "no GPU is used: tensorrt_rtx 10.9.0 refuses an engine: UNSUPPORTED_CC" in caplog.text
    # A caller that asks for the GPU, or for TensorRT, gets that or the reason.
    for arguments in ({"device": "cuda"}, {"backend": "tensorrt"}):
        with pytest.raises(BackendError, match="refuses an engine: UNSUPPORTED_CC"):
            engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path, **arguments)


def test_drivers_that_are_older_than_the_kernels(machine, gpu_bundle, monkeypatch) -> None:
    machine()
    assert _resolve(gpu_bundle) == "tensorrt"
    monkeypatch.setattr(SimulatedGpu, "do_cuDriverGetVersion", lambda self: 11080)
    assert _resolve(gpu_bundle) == "openvino"
    with pytest.raises(BackendError, match=r"for .* 9\.0 are of CUDA 1[2-9]\.\d, .* of CUDA 11\.8; update the driver"):
        engine.CrowdCounter(gpu_bundle.path, device="cuda")


def test_gpus_without_memory_pools(machine, gpu_bundle, tmp_path, caplog) -> None:
    machine(pools=False)
    with caplog.at_level(logging.INFO, "engine"), engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path) as counter:
        assert "openvino on cpu" in repr(counter)
    assert "no GPU is used: Simulated GPU has no stream-ordered memory pools" in caplog.text
    with pytest.raises(BackendError, match="memory pools"):
        engine.CrowdCounter(gpu_bundle.path, device="cuda")


def test_without_segments_in_the_type(machine, gpu_bundle, tmp_path: Path) -> None:
    machine()
    folder = tmp_path / "bare"
    shutil.copytree(gpu_bundle.path, folder)
    stages = {
        name: tuple(replace(x, typed={}) if isinstance(x, SegmentStage) else x for x in program.stages)
        for name, program in gpu_bundle.programs.items()
    }
    bare = write_manifest(
        folder, name="bare", model=gpu_bundle.model, default_steps=3, counting=gpu_bundle.counting,
        programs={name: replace(program, stages=stages[name]) for name, program in gpu_bundle.programs.items()},
    )  # fmt: skip
    assert _resolve(bare) == "openvino"
    with pytest.raises(BackendError, match=r"no float16 segments \(reduced types: none\); export it again"):
        engine.CrowdCounter(folder, device="cuda")


@pytest.mark.parametrize("part", ["Builder", "Runtime"])
def test_tensorrt_that_does_not_start(machine, gpu_bundle, tmp_path, caplog, part) -> None:
    """As one that is newer than the driver: nothing says so before it is tried."""
    here = machine()

    def refuse(logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    setattr(here.api, part, refuse)
    assert _resolve(gpu_bundle) == "tensorrt"
    with engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path) as counter:
        assert "openvino on cpu" in repr(counter)
    assert "no GPU is used: tensorrt 10.9.0 cannot" in caplog.text
    for arguments in ({"device": "cuda"}, {"backend": "tensorrt"}):
        with pytest.raises(BackendError, match="factory function returned nullptr"):
            engine.CrowdCounter(gpu_bundle.path, cache_dir=tmp_path, **arguments)


def test_the_cpu_is_tried_once(gpu_bundle, monkeypatch) -> None:
    monkeypatch.setattr("engine.backends.registry.why_no_gpu", lambda *_: "no GPU")
    tried = []

    def fail(name: str, *_: object) -> None:
        tried.append(name)
        raise BackendError("broken")

    monkeypatch.setattr("engine.backends.registry._make", fail)
    with pytest.raises(BackendError, match="broken"):
        engine.CrowdCounter(gpu_bundle.path)
    assert tried == ["openvino"]


def test_devices_and_types_that_are_not_there(machine, gpu_bundle) -> None:
    here = machine()
    with pytest.raises(BackendError, match="cuda:1"):
        here.counter(device="cuda:1")
    for compute_type in ("float32", "int8"):
        with pytest.raises(BackendError, match=f"computes in float16, bfloat16, got '{compute_type}'"):
            here.counter(compute_type=compute_type)
    with pytest.raises(BackendError, match="runs on a GPU, got device='cpu'"):
        engine.CrowdCounter(gpu_bundle.path, backend="tensorrt", device="cpu")
