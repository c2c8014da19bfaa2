"""The Triton kernels as PyTorch's operators on CUDA tensors."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from engine.errors import BackendError
from engine.model.attention import attend, criss_cross_attention


@functools.cache
def register_triton_kernels() -> None:
    """Let ``crowd::criss_cross_attention`` run the Triton kernel on CUDA tensors, for the rest of the process.

    Raises:
        BackendError: there is no Triton.
    """
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise BackendError(f"backend 'torch' needs Triton on a GPU: pip install triton ({error})") from error
    criss_cross_attention.register_kernel("cuda")(attend_on_gpu)


def attend_on_gpu(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Criss-cross attention by the Triton kernel, or in PyTorch's operators where the kernel does not take the type."""
    from engine.kernels.criss_cross_attention import DEPTHS
    from engine.kernels.criss_cross_attention import criss_cross_attention as attend_by_kernel

    if q.dtype in (torch.float16, torch.bfloat16) and q.shape[3] in DEPTHS and v.shape[3] % 16 == 0:
        return attend_by_kernel(q, k, v)
    return attend(q, k, v).contiguous()


class DeviceCoefficients:
    """DDIM coefficients as tensors on the device, uploaded once: a recorded graph reads them there at every replay."""

    def __init__(self, device: str):
        self._device = device
        self._tensors: dict[tuple[float, ...], Tensor] = {}

    def __getitem__(self, coefficients: tuple[float, ...]) -> Tensor:
        if coefficients not in self._tensors:
            self._tensors[coefficients] = torch.tensor(coefficients, dtype=torch.float32, device=self._device)
        return self._tensors[coefficients]
