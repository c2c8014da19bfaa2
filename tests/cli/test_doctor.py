"""The report of ``crowd doctor``, on machines made up for the tests."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys

import pytest

from engine.cli import doctor, main
from engine.cli.doctor import BackendState, Model, Report, check_backend, check_model, examine, render
from engine.cli.extras import Extra
from engine.cli.gpu import Gpu, Part, check_gpu
from engine.cli.machine import Cpu, Cuda, parse_cpuinfo, probe_cuda, read_cpu, read_versions
from engine.errors import BackendError

X86 = """processor\t: 0
model name\t: Example CPU @ 2.00GHz
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16
processor\t: 1
model name\t: Example CPU @ 2.00GHz
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp bf16 i8mm\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, ("Example CPU @ 2.00GHz", ("avx2", "avx512f", "avx512_bf16", "amx_bf16"))),
        (ARM, ("", ("asimd", "asimddp", "bf16", "i8mm"))),
        ("", ("", ())),
    ],
)
def test_cpuinfo(text, expected):
    assert parse_cpuinfo(text) == expected


def test_the_processor_of_this_machine_has_cores():
    assert read_cpu().cores >= 1


class StandInDriver:
    """libcuda of a machine with the named GPUs; ``status`` is what cuInit returns."""

    def __init__(self, names: list[bytes], status: int = 0):
        self.names, self.status = names, status

    def cuInit(self, flags):  # noqa: N802
        return self.status

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 13010

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = len(self.names)

    def cuDeviceGet(self, device, index):  # noqa: N802
        # A handle that is not the index, so that mixing them up shows.
        device._obj.value = 40 + index

    def cuDeviceGetName(self, buffer, size, device):  # noqa: N802
        ctypes.memmove(buffer, self.names[device.value - 40], len(self.names[device.value - 40]))


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (StandInDriver([b"GPU one", b"GPU two"]), Cuda("13.1", ("GPU one", "GPU two"), None)),
        (StandInDriver([]), Cuda("13.1", (), None)),
        (StandInDriver([], status=100), Cuda(None, (), "the CUDA driver does not start: error 100 of cuInit")),
    ],
)
def test_cuda_driver(driver, expected):
    assert probe_cuda(lambda name: driver) == expected


def test_no_cuda_driver():
    def nothing(name):
        raise OSError("no such library")

    assert probe_cuda(nothing) == Cuda(None, (), "no CUDA driver")


def test_versions_of_what_is_and_is_not_installed():
    versions = read_versions(["numpy", "no-such-distribution-of-ours"])
    assert versions["numpy"]
    assert versions["no-such-distribution-of-ours"] is None


def test_a_missing_model_says_where_it_was_expected(tmp_path):
    model = check_model(str(tmp_path))
    assert model.name is None
    assert str(tmp_path) in str(model.problem)


def only(*working: str):
    """A ``try_count`` of a machine on which these backends work."""

    def try_count(name: str) -> str:
        if name not in working:
            raise BackendError(f"{name} is broken")
        return f"{name} on cpu"

    return try_count


def test_backend_states():
    versions = {"openvino": "1.0", "torch": None, "safetensors": "0.5"}
    assert check_backend("openvino", versions, only("openvino")) == BackendState(
        "openvino", True, "openvino on cpu", None
    )
    # Installed and failing is another thing than not installed: no command would help.
    assert check_backend("openvino", versions, only()).install is None
    assert check_backend("torch", versions, only()).install == "pip install 'crowd-engine[train]'"
    # PyTorch is not enough.
    here = {"torch": "2.9", "safetensors": None}
    assert check_backend("torch", here, only()).install == "pip install 'crowd-engine[train]'"
    assert check_backend("torch", here | {"safetensors": "0.5"}, only()).install is None
    assert check_backend("tensorrt", versions, only()) == BackendState("tensorrt", False, "tensorrt is broken", None)


@pytest.mark.parametrize("missing", ["torch", "safetensors"])
def test_the_torch_backend_names_the_module_that_is_missing(missing):
    program = (
        "import sys, types\n"
        f"sys.modules['torch'] = types.ModuleType('torch')\nsys.modules['{missing}'] = None\n"
        "import engine.backends.torch.backend"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    advice = re.escape("pip install 'crowd-engine[train]'")
    assert re.search(rf"BackendError: .* \(.*\b{missing}\b.*\): {advice}$", done.stderr)


@pytest.mark.parametrize("error", [ImportError("no _core"), OSError("libx.so"), RuntimeError("CPU")])
def test_a_damaged_install_is_reported_and_does_not_crash(error):
    def try_count(name: str) -> str:
        raise error

    found = examine(try_count)
    assert not found.healthy
    assert all(state.detail == f"{type(error).__name__}: {error}" for state in found.backends)


def report(**changes) -> Report:
    parts = {
        "python": "3.12.0",
        "system": "Linux",
        "versions": {"numpy": "2.0", "torch": None},
        "cpu": Cpu("Example CPU", 4, ("avx2",)),
        "cuda": Cuda(None, (), "no CUDA driver"),
        "gpu": Gpu((Part("driver", False, "install it"), Part("tensorrt", True, "tensorrt 10.9")), "no driver"),
        "model": Model("default", "ab" * 32, None),
        "backends": (
            BackendState("openvino", True, "openvino on cpu, float32", None),
            BackendState("torch", False, "needs torch", "pip install 'crowd-engine[train]'"),
            BackendState("tensorrt", False, "not in this version", None),
        ),
        "extras": (Extra("video", "videos", ()), Extra("heic", "HEIC pictures", ("pillow-heif",))),
        "auto": "openvino on cpu, float32",
    }
    return Report(**(parts | changes))


def test_text_of_a_healthy_machine():
    lines = [" ".join(line.split()) for line in render(report()).splitlines()]
    for line in (
        "cpu Example CPU, 4 cores",
        "cuda no CUDA driver",
        "torch -",
        "driver missing: install it",
        "tensorrt tensorrt 10.9",
        "model default, every file matches its hash (abababababab)",
        "openvino works: openvino on cpu, float32",
        "torch missing: pip install 'crowd-engine[train]'",
        "tensorrt fails: not in this version",
        "video installed, for videos",
        "heic missing, for HEIC pictures: pip install 'crowd-engine[heic]'",
    ):
        assert line in lines
    assert lines[-1] == "Counting works; backend 'auto' gives openvino on cpu, float32."


def test_text_of_a_machine_that_cannot_count():
    text = render(report(auto=None, model=Model(None, None, "weights are damaged")))
    assert "weights are damaged" in text
    assert text.endswith("mend what is listed above.")


@pytest.mark.parametrize(("auto", "status"), [("openvino on cpu", 0), (None, 1)])
def test_exit_status_and_json(auto, status, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: report(auto=auto))
    assert main(["doctor", "--json"]) == status
    written = json.loads(capsys.readouterr().out)
    assert written["healthy"] is (status == 0)
    assert written["cpu"]["cores"] == 4
    assert main(["doctor"]) == status
    assert "Counting" in capsys.readouterr().out


def test_examining_this_machine_asks_every_backend():
    asked = []

    def try_count(name: str) -> str:
        asked.append(name)
        return name

    found = examine(try_count)
    assert asked == [*doctor.BACKENDS, "auto"]
    # Else the advice for PyTorch's backend would always be to install.
    assert found.versions["safetensors"] == read_versions(["safetensors"])["safetensors"]
    assert found.auto == "auto"
    assert found.healthy


def test_without_a_single_working_backend_the_machine_is_not_healthy():
    assert not examine(only()).healthy


def test_a_text_file_is_not_a_model(tmp_path):
    (tmp_path / "manifest.json").write_text("hello")
    assert check_model(str(tmp_path)).problem


def test_parts_of_a_machine_without_a_driver(monkeypatch):
    def absent():
        raise BackendError("no NVIDIA driver; install it")

    monkeypatch.setattr("engine.cli.gpu.load_driver", absent)
    monkeypatch.setattr("engine.backends.tensorrt.requirements.load_driver", absent)
    found = check_gpu()
    parts = {part.name: part for part in found.parts}
    assert list(parts) == ["driver", "tensorrt", "kernels", "segments"]
    assert parts["driver"] == Part("driver", False, "no NVIDIA driver; install it")
    assert found.problem == "no NVIDIA driver; install it"


def test_parts_of_a_machine_without_a_model(tmp_path):
    found = check_gpu(str(tmp_path))
    assert not any(part.found for part in found.parts if part.name in ("kernels", "segments"))
