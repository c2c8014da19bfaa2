"""Head maps from latents on the GPU: samples fused, space-to-depth undone, scaled and cropped in one pass.

Of S samples' clean latents e in [-b, b] and step-to-step changes c, with scale = 1 / (2 b):

    heatmap = clip(mean(e) scale + 1/2, 0, 1)      spread = clip(mean(c) + scale std(e), 0, 1)

(without the deviation if S = 1), where cell (y, x) of a map lies in channel (y mod r) r + (x mod r) of block
(y div r, x div r). Additions in the order of the samples, IEEE division and square root, and no fused multiply-add
make it NumPy's float32 result bit for bit.

Neighbouring threads write neighbouring cells and read r planes, each in whole 32-byte sectors. A row of the
largest tile is 1024 cells: blocks of 256 give the smallest pictures several programs and waste little on their ends.
"""

# Constants of a Triton kernel are upper-case, and its other arguments have no Python type.
# ruff: noqa: N803
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCKS = {"BLOCK": 256}
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _clip_to_one(x):
    # Comparisons, so that NaN passes.
    x = tl.where(x < 0.0, 0.0, x)
    return tl.where(x > 1.0, 1.0, x)


# A size of 1 would otherwise be a Python number inside the kernel, which has no type to convert from.
@triton.jit(do_not_specialize=["samples", "latent_height"])
def unfold_heads(
    estimates, changes, heatmap, spread, samples, latent_height, latent_width, top, left, width, out_step, scale,
    FACTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK cells of one row of both maps; grid: (rows, blocks of a row)."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    y = top + row
    x = left + column
    channel = y % FACTOR * FACTOR + x % FACTOR
    cell = (channel * latent_height + y // FACTOR) * latent_width + x // FACTOR
    plane = FACTOR * FACTOR * latent_height.to(tl.int64) * latent_width

    mean = tl.zeros([BLOCK], tl.float32)
    moved = tl.zeros([BLOCK], tl.float32)
    for sample in range(samples):
        mean += tl.load(estimates + sample * plane + cell, mask=inside, other=0.0)
        moved += tl.load(changes + sample * plane + cell, mask=inside, other=0.0)
    number = samples.to(tl.float32)
    mean = tl.div_rn(mean, number)
    moved = tl.div_rn(moved, number)
    if samples > 1:
        squares = tl.zeros([BLOCK], tl.float32)
        for sample in range(samples):
            away = tl.load(estimates + sample * plane + cell, mask=inside, other=0.0) - mean
            squares += away * away
        moved += scale * tl.sqrt_rn(tl.div_rn(squares, number))
    there = row.to(tl.int64) * out_step + column
    tl.store(heatmap + there, _clip_to_one(mean * scale + 0.5), mask=inside)
    tl.store(spread + there, _clip_to_one(moved), mask=inside)


def head_maps(
    estimates: Tensor, changes: Tensor, scale: float, window: tuple[int, int, int, int]
) -> tuple[Tensor, Tensor]:
    """Heat map and spread of one picture or tile.

    Args:
        estimates: clean latents [S, r * r, h, w] of S samples, float32, contiguous.
        changes: step-to-step changes, likewise.
        scale: 1 / (2 b) for latents in -b .. b.
        window: (top, left, height, width) of the cells to keep, within [h r, w r].

    Returns:
        heatmap and spread, float32 [height, width], in [0, 1].

    Raises:
        ValueError: another shape, type or layout, or a window that leaves the map.
    """
    samples, channels, latent_height, latent_width = estimates.shape
    factor = round(channels**0.5)
    top, left, height, width = window
    for name, x in (("estimates", estimates), ("changes", changes)):
        if x.dtype != torch.float32 or not x.is_contiguous() or x.shape != estimates.shape:
            raise ValueError(
                f"{name} must be contiguous float32 {list(estimates.shape)}, got {x.dtype} {list(x.shape)}"
            )
    if factor not in (1, 2, 4, 8) or factor**2 != channels or not samples or estimates[0].numel() >= 2**31:
        raise ValueError(f"latents must be [S, r * r, h, w], r in 1, 2, 4, 8; got shape {list(estimates.shape)}")
    if min(window) < 0 or top + height > latent_height * factor or left + width > latent_width * factor:
        raise ValueError(f"window {window} must lie within {latent_height * factor} x {latent_width * factor} cells")
    heatmap, spread = (torch.empty((height, width), dtype=torch.float32, device=estimates.device) for _ in range(2))
    if heatmap.numel():
        unfold_heads[(height, triton.cdiv(width, BLOCKS["BLOCK"]))](
            estimates, changes, heatmap, spread, samples, latent_height, latent_width, top, left, width, width, scale,
            FACTOR=factor, **BLOCKS, **OPTIONS,
        )  # fmt: skip
    return heatmap, spread
