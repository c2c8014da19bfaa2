"""The number type that training and calibration compute in."""

from __future__ import annotations

import torch

# Instructions that multiply bfloat16, by the names of torch.cpu.get_capabilities: of x86, then of Arm.
_BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")


def mixed_precision(device: str | torch.device) -> torch.autocast:
    """Autocast to bfloat16 on a GPU or a CPU with instructions for it; elsewhere one that leaves float32 as it is.

    A CPU without them takes nine times as long for a convolution in bfloat16 as in float32 (AVX2, PyTorch 2.13).
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind != "cpu" or has_bfloat16())


def has_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _BFLOAT16_INSTRUCTIONS)
