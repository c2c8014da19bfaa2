"""Criss-cross attention on the GPU: every pixel attends to its own row and column, under one softmax.

With s = log2(e) q . k, both passes are flash attention along lines, and no energy tensor is stored:

- rows: for each pixel, L = log2(sum 2^s) over its row and P = sum 2^(s - L) v, its attention to the row alone;
- columns: the online softmax over the column, own pixel left out, starts from maximum L, sum 1 and value P:
  exactly where it would stand after the row. What it ends with is the attention to the whole cross.

Between the passes P stays in float32: 4 C bytes a pixel, which the second-level cache keeps for any map of the model.

One program holds 64 queries of a line (the rows of one warp group's wgmma on Hopper, and four warps of mma.sync
elsewhere) and meets the line's keys 64 at a time; three stages put all loads of a line of 128 pixels in flight at once.
Channels are cut into blocks of at most 64: the logits are computed again for each block, which costs D / C_block of
the product with v, but the accumulator stays at 32 registers a thread and small maps fill the device: 48 x 64 pixels of
192 channels are 144 and 192 programs, 96 x 128 of 64 channels 192 and 256, one wave on 132 multiprocessors either way.

Source: CCNet (ICCV 2019); FlashAttention-2 (2023) for the passes.
"""

# Constants of a Triton kernel are upper-case, and its other arguments have no Python type.
# ruff: noqa: N803
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Depths that the tensor cores take and whose tiles fit.
DEPTHS = (16, 32, 64, 128)
BLOCKS = {"BLOCK_M": 64, "BLOCK_N": 64}
OPTIONS = {"num_warps": 4, "num_stages": 3, "enable_fp_fusion": True}
_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _attend_to_line(
    queries, keys, values, own, length, k_step, v_step, maximum, total, acc,
    D: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr, SKIP_OWN: tl.constexpr,
):  # fmt: skip
    """Online softmax of ``queries`` [M, D], at positions ``own`` of a line, over all ``length`` pixels of it."""
    depth = tl.arange(0, D)
    channel = tl.arange(0, BLOCK_C)
    for start in range(0, length, BLOCK_N):
        other = start + tl.arange(0, BLOCK_N)
        inside = other < length
        k = tl.load(keys + other[:, None] * k_step + depth[None, :], mask=inside[:, None], other=0.0)
        v = tl.load(values + other[:, None] * v_step + channel[None, :], mask=inside[:, None], other=0.0)
        logits = tl.dot(queries, tl.trans(k))
        allowed = inside[None, :]
        if SKIP_OWN:
            allowed = allowed & (own[:, None] != other[None, :])
        logits = tl.where(allowed, logits, float("-inf"))
        raised = tl.maximum(maximum, tl.max(logits, 1) * _LOG2_E)
        # Product and difference are one fused instruction.
        weights = tl.exp2(logits * _LOG2_E - raised[:, None])
        rescale = tl.exp2(maximum - raised)
        total = total * rescale + tl.sum(weights, 1)
        acc = acc * rescale[:, None] + tl.dot(weights.to(v.dtype), v)
        maximum = raised
    return maximum, total, acc


@triton.jit
def criss_cross_rows(
    q, k, v, row_acc, row_lse, width, q_step, k_step, v_step,
    D: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """P and L of 64 pixels of a row; grid: (row of the batch, block of the row, block of channels)."""
    # A batch may have more than 2^31 elements, a line has not.
    first = tl.program_id(0).to(tl.int64) * width
    own = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    first_channel = tl.program_id(2) * BLOCK_C
    depth = tl.arange(0, D)
    channel = tl.arange(0, BLOCK_C)
    inside = own < width
    queries = tl.load(q + first * q_step + own[:, None] * q_step + depth[None, :], mask=inside[:, None], other=0.0)
    maximum, total, acc = _attend_to_line(
        queries, k + first * k_step, v + first * v_step + first_channel, own, width, k_step, v_step,
        tl.full([BLOCK_M], float("-inf"), tl.float32), tl.zeros([BLOCK_M], tl.float32),
        tl.zeros([BLOCK_M, BLOCK_C], tl.float32), D, BLOCK_C, BLOCK_N, False,
    )  # fmt: skip
    if tl.program_id(2) == 0:
        tl.store(row_lse + first + own, maximum + tl.log2(total), mask=inside)
    there = row_acc + first * C + first_channel + own[:, None] * C + channel[None, :]
    tl.store(there, acc * (1.0 / total)[:, None], mask=inside[:, None])


@triton.jit
def criss_cross_columns(
    q, k, v, row_acc, row_lse, out, height, width, q_step, k_step, v_step,
    D: tl.constexpr, C: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The result at 64 pixels of a column; grid: (column of the batch, block of the column, block of channels)."""
    line = tl.program_id(0)
    first = (line // width).to(tl.int64) * height * width + line % width
    own = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    first_channel = tl.program_id(2) * BLOCK_C
    depth = tl.arange(0, D)
    channel = tl.arange(0, BLOCK_C)
    inside = own < height
    pixel = own * width
    queries = tl.load(q + first * q_step + pixel[:, None] * q_step + depth[None, :], mask=inside[:, None], other=0.0)
    here = first * C + first_channel + pixel[:, None] * C + channel[None, :]
    _, total, acc = _attend_to_line(
        queries, k + first * k_step, v + first * v_step + first_channel, own, height, width * k_step, width * v_step,
        tl.load(row_lse + first + pixel, mask=inside, other=0.0), tl.full([BLOCK_M], 1.0, tl.float32),
        tl.load(row_acc + here, mask=inside[:, None], other=0.0), D, BLOCK_C, BLOCK_N, True,
    )  # fmt: skip
    tl.store(out + here, (acc * (1.0 / total)[:, None]).to(out.dtype.element_ty), mask=inside[:, None])


def channel_block(channels: int) -> int:
    """Channels of one program: the largest power of two up to 64 that divides ``channels``."""
    return min(64, channels & -channels)


def criss_cross_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of every pixel over its own row and column, under one softmax; logits are not scaled.

    Args:
        q, k: [B, H, W, D], float16 or bfloat16, D a power of two from 16 to 128.
        v: [B, H, W, C], same type, C a multiple of 16.

    Each may be a view of a packed tensor [B, H, W, 2 D + C]: pixels evenly spaced, the last axis contiguous.

    Returns:
        [B, H, W, C], contiguous, of the same type; accumulated in float32.

    Raises:
        ValueError: another shape, type or layout.
    """
    _check(q, k, v)
    batch, height, width, depth = q.shape
    channels = v.shape[3]
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    row_acc = torch.empty(v.shape, dtype=torch.float32, device=v.device)
    row_lse = torch.empty(v.shape[:3], dtype=torch.float32, device=v.device)
    if out.numel() == 0:
        return out
    block = channel_block(channels)
    sizes = {"D": depth, "C": channels, "BLOCK_C": block, **BLOCKS}
    steps = _pixel_step(q), _pixel_step(k), _pixel_step(v)
    grid = batch * height, triton.cdiv(width, BLOCKS["BLOCK_M"]), channels // block
    criss_cross_rows[grid](q, k, v, row_acc, row_lse, width, *steps, **sizes, **OPTIONS)
    grid = batch * width, triton.cdiv(height, BLOCKS["BLOCK_M"]), channels // block
    criss_cross_columns[grid](q, k, v, row_acc, row_lse, out, height, width, *steps, **sizes, **OPTIONS)
    return out


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if q.ndim != 4 or k.shape != q.shape or v.ndim != 4 or v.shape[:3] != q.shape[:3]:
        raise ValueError(f"q, k, v must be [B, H, W, D], the same, and [B, H, W, C]; got {shapes}")
    if q.shape[3] not in DEPTHS or v.shape[3] % 16 or not v.shape[3]:
        raise ValueError(f"D must be 16, 32, 64 or 128 and C a multiple of 16, got D={q.shape[3]}, C={v.shape[3]}")
    if q.dtype not in (torch.float16, torch.bfloat16) or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k, v must all be float16 or bfloat16, got {q.dtype}, {k.dtype}, {v.dtype}")
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.numel() and (x.stride(3) != 1 or not _evenly_spaced(x)):
            raise ValueError(f"pixels of {name} must be evenly spaced with contiguous channels; strides {x.stride()}")
        if _pixel_step(x) * x.shape[1] * x.shape[2] >= 2**31:
            raise ValueError(f"one image of {name} must span fewer than 2**31 elements, got shape {tuple(x.shape)}")


def _pixel_step(x: Tensor) -> int:
    """Elements from one pixel to the next; the stride of an axis of length 1 says nothing."""
    axis = next((axis for axis in (2, 1, 0) if x.shape[axis] > 1), None)
    return x.shape[3] if axis is None else x.stride(axis) // x.shape[axis + 1 : 3].numel()


def _evenly_spaced(x: Tensor) -> bool:
    step = _pixel_step(x)
    return step >= x.shape[3] and all(
        x.shape[axis] == 1 or x.stride(axis) == step * x.shape[axis + 1 : 3].numel() for axis in range(3)
    )
