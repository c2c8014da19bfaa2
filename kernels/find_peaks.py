"""Local maxima of a heat map on the GPU, compacted in raster order and refined to a fraction of a cell.

A cell is a peak if it reaches the threshold, exceeds its 4 earlier neighbours in raster order and is no less than
its 4 later ones; each axis is refined by the vertex of the parabola through three cells, (r - l) / (2 (2c - l - r)).

Two launches: the first counts the peaks of each block of cells; in the second each block adds up the counts before its
own and writes its peaks from there. No atomics, so the order is the raster order on every run. Peaks beyond the
capacity are not written, but counted.

Blocks of 256 cells: 768 of them at 384 x 512 cells, one wave on 132 multiprocessors, their counts one load; and most
blocks of a sparse picture hold no peak and stop early, before the float64 arithmetic that consumer devices do slowly.

Source: peaks as in CenterNet (2019); the parabola is the standard three-point vertex formula.
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
SUMMED = {"SUMMED": 1024}
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def _peaks_of_block(heatmap, threshold, cell, height, width):
    """Which of the cells are peaks, as int32."""
    y = cell // width
    x = cell % width
    exists = y < height
    value = tl.load(heatmap + cell, mask=exists, other=float("-inf"))
    # What compares false with a NaN neighbour is kept: it counts as -infinity.
    is_peak = (value >= tl.load(threshold)) & (value > float("-inf"))
    for dy in tl.static_range(-1, 2):
        for dx in tl.static_range(-1, 2):
            if dy != 0 or dx != 0:
                there = exists & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
                other = tl.load(heatmap + cell + dy * width + dx, mask=there, other=float("-inf"))
                beaten = other >= value if dy < 0 or (dy == 0 and dx < 0) else other > value
                is_peak = is_peak & (beaten == 0)
    return is_peak.to(tl.int32)


@triton.jit
def _vertex(heatmap, cell, centre, step, has_before, has_after):
    """Vertex of the parabola through the cells before and after, in float64; 0 where one is missing or NaN."""
    before = tl.load(heatmap + cell - step, mask=has_before, other=float("nan")).to(tl.float64)
    after = tl.load(heatmap + cell + step, mask=has_after, other=float("nan")).to(tl.float64)
    denominator = 2 * (2 * centre - before - after)
    usable = (denominator > 0) & (denominator < float("inf"))
    offset = (after - before) / tl.where(usable, denominator, 1.0)
    offset = tl.where(offset > 0.5, 0.5, tl.where(offset < -0.5, -0.5, offset))
    return tl.where(usable, offset, 0.0)


@triton.jit
def count_peaks(heatmap, threshold, counts, height, width, BLOCK: tl.constexpr):
    """Number of peaks in a block of cells; grid: (blocks,)."""
    block = tl.program_id(0)
    cell = block * BLOCK + tl.arange(0, BLOCK)
    tl.store(counts + block, tl.sum(_peaks_of_block(heatmap, threshold, cell, height, width), 0))


@triton.jit
def write_peaks(
    heatmap, threshold, counts, points, scores, total, height, width, capacity,
    BLOCK: tl.constexpr, SUMMED: tl.constexpr,
):  # fmt: skip
    """The peaks of a block of cells, behind those of all blocks before; grid: (blocks,)."""
    block = tl.program_id(0)
    sums = tl.zeros([SUMMED], tl.int32)
    for start in range(0, block, SUMMED):
        earlier = start + tl.arange(0, SUMMED)
        sums += tl.load(counts + earlier, mask=earlier < block, other=0)
    first = tl.sum(sums, 0)
    number = tl.load(counts + block)
    if block == tl.num_programs(0) - 1:
        tl.store(total, first + number)
    if number > 0:
        cell = block * BLOCK + tl.arange(0, BLOCK)
        is_peak = _peaks_of_block(heatmap, threshold, cell, height, width)
        slot = first + tl.cumsum(is_peak, 0) - is_peak
        kept = (is_peak != 0) & (slot < capacity)
        y = cell // width
        x = cell % width
        score = tl.load(heatmap + cell, mask=kept, other=0.0)
        centre = score.to(tl.float64)
        dx = _vertex(heatmap, cell, centre, 1, kept & (x > 0), kept & (x < width - 1))
        dy = _vertex(heatmap, cell, centre, width, kept & (y > 0), kept & (y < height - 1))
        tl.store(points + 2 * slot, (x.to(tl.float64) + 0.5 + dx).to(tl.float32), mask=kept)
        tl.store(points + 2 * slot + 1, (y.to(tl.float64) + 0.5 + dy).to(tl.float32), mask=kept)
        tl.store(scores + slot, score, mask=kept)


def find_peaks(heatmap: Tensor, threshold: Tensor, capacity: int) -> tuple[Tensor, Tensor, Tensor]:
    """Local maxima of a heat map that reach a threshold, in raster order.

    Args:
        heatmap: [h, w] float32, contiguous.
        threshold: smallest value of a peak, float32 [1] on the same device. To compare exactly with a
            float64 number, give the smallest float32 that is not below it.
        capacity: peaks that the result has room for.

    Returns:
        points float32 [capacity, 2] as (x, y) in cells, the centre of the first cell being (0.5, 0.5);
        scores float32 [capacity]; and the number of peaks found, int32 [1]. If that exceeds
        ``capacity``, only the first ``capacity`` peaks were written; behind the last one nothing is.

    Nothing waits for the device, so the call can be captured in a graph.

    Raises:
        ValueError: another shape, type or layout.
    """
    if heatmap.ndim != 2 or heatmap.dtype != torch.float32 or not heatmap.is_contiguous():
        raise ValueError(f"heatmap must be contiguous float32 [h, w], got {heatmap.dtype} {list(heatmap.shape)}")
    if threshold.shape != (1,) or threshold.dtype != torch.float32:
        raise ValueError(f"threshold must be float32 [1], got {threshold.dtype} {list(threshold.shape)}")
    if heatmap.numel() >= 2**31 - BLOCKS["BLOCK"] or not 0 <= capacity < 2**30:
        raise ValueError(f"{heatmap.numel()} cells or capacity {capacity} is out of range; expected below 2**31, 2**30")
    height, width = heatmap.shape
    points = torch.empty((capacity, 2), dtype=torch.float32, device=heatmap.device)
    scores = torch.empty(capacity, dtype=torch.float32, device=heatmap.device)
    if not heatmap.numel():
        return points, scores, torch.zeros(1, dtype=torch.int32, device=heatmap.device)
    total = torch.empty(1, dtype=torch.int32, device=heatmap.device)
    grid = (triton.cdiv(heatmap.numel(), BLOCKS["BLOCK"]),)
    counts = torch.empty(grid, dtype=torch.int32, device=heatmap.device)
    count_peaks[grid](heatmap, threshold, counts, height, width, **BLOCKS, **OPTIONS)
    write_peaks[grid](
        heatmap, threshold, counts, points, scores, total, height, width, capacity, **BLOCKS, **SUMMED, **OPTIONS
    )
    return points, scores, total
