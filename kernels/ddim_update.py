"""One deterministic DDIM step on the GPU, and how much it changed the estimate of the clean map.

With new = clip(x_0, -limit, limit), noise = (x_t - alpha new) / max(sigma, 1e-8):

    x_t' = alpha_next new + sigma_next noise      change' = change + change_weight |new - estimate|      estimate' = new

in one pass over memory. The six coefficients lie in device memory, so that one recorded graph serves any schedule.
x_t has the type that the decoder reads; all else is float32. NaN passes through, as in NumPy's clip.

Each thread handles 8 neighbours: 16 bytes of x_t in half and two times 16 of the others, the widest loads there are;
a latent of 16 x 96 x 128 is 192 programs.

Source: DDIM (ICLR 2021) with eta = 0, equation 12, as used by DDP (ICCV 2023).
"""

# Constants of a Triton kernel are upper-case, and its other arguments have no Python type.
# ruff: noqa: N803
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCKS = {"BLOCK": 1024}
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


@triton.jit
def ddim_step(x_t, x_0, estimate, change, coefficients, size, BLOCK: tl.constexpr):
    """The step on BLOCK elements; grid: (blocks,)."""
    alpha = tl.load(coefficients)
    sigma = tl.load(coefficients + 1)
    alpha_next = tl.load(coefficients + 2)
    sigma_next = tl.load(coefficients + 3)
    limit = tl.load(coefficients + 4)
    change_weight = tl.load(coefficients + 5)
    # x_t' = keep x_t + add new: a division for each program in place of one for each element.
    keep = sigma_next / tl.maximum(sigma, 1e-8)
    add = alpha_next - keep * alpha

    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < size
    new = tl.load(x_0 + i, mask=inside, other=0.0)
    old = tl.load(estimate + i, mask=inside, other=0.0)
    noisy = tl.load(x_t + i, mask=inside, other=0.0).to(tl.float32)
    moved_so_far = tl.load(change + i, mask=inside, other=0.0)
    # Comparisons, so that NaN passes.
    new = tl.where(new < -limit, -limit, new)
    new = tl.where(new > limit, limit, new)
    tl.store(x_t + i, (keep * noisy + add * new).to(x_t.dtype.element_ty), mask=inside)
    tl.store(change + i, moved_so_far + change_weight * tl.abs(new - old), mask=inside)
    tl.store(estimate + i, new, mask=inside)


def ddim_update(x_t: Tensor, x_0: Tensor, estimate: Tensor, change: Tensor, coefficients: Tensor) -> None:
    """One DDIM step, in place in ``x_t``, ``estimate`` and ``change``.

    Args:
        x_t: the noisy map, any shape, float16, bfloat16 or float32.
        x_0, estimate, change: same shape, float32.
        coefficients: float32 [6] on the same device: alpha, sigma, alpha_next, sigma_next, limit, change_weight.

    All must be contiguous.

    Raises:
        ValueError: another shape, type or layout.
    """
    for name, x in (("x_0", x_0), ("estimate", estimate), ("change", change), ("coefficients", coefficients)):
        if x.dtype != torch.float32:
            raise ValueError(f"{name} must be float32, got {x.dtype}")
    if not x_t.dtype.is_floating_point or x_t.dtype.itemsize > 4:
        raise ValueError(f"x_t must be float16, bfloat16 or float32, got {x_t.dtype}")
    maps = (x_t, x_0, estimate, change)
    if any(x.shape != x_t.shape or not x.is_contiguous() for x in maps) or x_t.numel() >= 2**31 - BLOCKS["BLOCK"]:
        raise ValueError(f"maps must be contiguous, of one shape below 2**31, got {[tuple(x.shape) for x in maps]}")
    if coefficients.shape != (6,) or not coefficients.is_contiguous():
        raise ValueError(f"coefficients must be 6 contiguous numbers, got shape {tuple(coefficients.shape)}")
    if x_t.numel():
        grid = (triton.cdiv(x_t.numel(), BLOCKS["BLOCK"]),)
        ddim_step[grid](x_t, x_0, estimate, change, coefficients, x_t.numel(), **BLOCKS, **OPTIONS)
