"""What doctor says of a GPU, of a simulated one."""

from __future__ import annotations

import pytest

from engine.cli import gpu as doctor


@pytest.fixture
def report(machine, gpu_bundle, monkeypatch):
    def look(**options):
        here = machine(**options)
        monkeypatch.setattr(doctor, "load_driver", lambda: here.driver)
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


def test_a_gpu_without_kernels(report) -> None:
    found = report(capability=(8, 0))
    assert "compute capability 8.0, the model's kernels were compiled for 9.0" in found.problem
    assert [part.name for part in found.parts if not part.found] == ["kernels"]
