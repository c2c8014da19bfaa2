"""What PyTorch runs on a GPU, as far as that shows without one."""

from __future__ import annotations

import numpy as np
import pytest

import engine
from engine.kernels import reference

torch = pytest.importorskip("torch", reason="PyTorch comes with the train extra")


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("triton", reason="Triton exists on Linux alone")
    from engine.backends.torch import kernels

    return kernels


def test_the_attention_kernel_is_registered_for_cuda_alone(kernels) -> None:
    q = torch.randn(1, 3, 4, 16)
    before = torch.ops.crowd.criss_cross_attention(q, q, q)
    kernels.register_triton_kernels()
    kernels.register_triton_kernels()
    assert torch._C._dispatch_has_kernel_for_dispatch_key("crowd::criss_cross_attention", "CUDA")
    assert torch.equal(torch.ops.crowd.criss_cross_attention(q, q, q), before)


@pytest.mark.parametrize(
    ("dtype", "depth", "by_kernel"),
    [(torch.float16, 16, True), (torch.bfloat16, 32, True), (torch.float32, 16, False), (torch.float16, 8, False)],
    ids=str,
)
def test_the_kernel_runs_where_it_takes_the_type(kernels, monkeypatch, dtype, depth, by_kernel) -> None:
    asked = []

    def kernel(q, k, v):
        asked.append(q.dtype)
        return v

    monkeypatch.setattr("engine.kernels.criss_cross_attention.criss_cross_attention", kernel)
    torch.manual_seed(0)
    q, v = torch.randn(1, 3, 5, depth).to(dtype), torch.randn(1, 3, 5, 32).to(dtype)
    out = kernels.attend_on_gpu(q, q, v)
    assert bool(asked) == by_kernel
    if not by_kernel:
        expected = reference.criss_cross_attention(q.float(), q.float(), v.float())
        assert np.allclose(out.float(), expected, atol=5e-3)


def test_coefficients_are_uploaded_once(kernels) -> None:
    coefficients = kernels.DeviceCoefficients("cpu")
    numbers = (1.0, 0.5, 0.25, 0.125, 0.25, 0.0)
    assert coefficients[numbers].tolist() == list(numbers)
    assert coefficients[numbers] is coefficients[numbers]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(engine.EngineError, match="PyTorch finds no CUDA device"):
        engine.CrowdCounter(backend="torch", device="cuda")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(engine.EngineError, match="PyTorch finds 2 CUDA devices here, numbered from 0"):
        engine.CrowdCounter(backend="torch", device="cuda:2")


@pytest.mark.gpu
@pytest.mark.parametrize("compute_type", ["float32", "float16", "bfloat16"])
def test_replays_equal_the_first_count(compute_type) -> None:
    images = [np.random.default_rng(seed).integers(0, 256, (96, 160, 3), np.uint8) for seed in range(2)]
    with engine.CrowdCounter(backend="torch", device="cuda", compute_type=compute_type) as counter:
        expected = [counter.count(image) for image in images]
        for _ in range(10):
            for image, first in zip(images, expected, strict=True):
                assert np.array_equal(counter.count(image).heatmap, first.heatmap)
