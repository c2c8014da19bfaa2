"""Picture -> network input on the GPU: normalised, zero-padded on the right and below, channels first, in half.

value = pixel * scale - shift in float32 (two roundings, no fused multiply-add), then rounded to half: bit for bit what
the CPU path computes and rounds. scale = 1 / (255 std) and shift = mean / std.

Strides of all three axes of the picture are arguments: rows may be padded, channels may come first, and BGR is RGB with
a channel stride of -1 from its last channel. Two pixels a thread: a warp then reads six sectors a channel, of which
the first channel's load brings in all three; more pixels a thread would spread each load over more lines.
"""

# Constants of a Triton kernel are upper-case, and its other arguments have no Python type.
# ruff: noqa: N803
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCKS = {"BLOCK": 256}
OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def normalise_pixels(
    image, out, height, width, row_stride, column_stride, channel_stride, padded_height, padded_width, scale, shift,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK pixels of one padded row, all channels; grid: (padded rows, blocks of a row)."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    # Rows below the picture have no pixels.
    inside = column < tl.where(row < height, width, 0)
    first = image + row.to(tl.int64) * row_stride
    for channel in tl.static_range(3):
        pixels = tl.load(first + column * column_stride + channel * channel_stride, mask=inside, other=0)
        values = tl.where(inside, pixels.to(tl.float32) * scale - shift, 0.0)
        there = (channel * padded_height + row) * padded_width + column
        tl.store(out + there, values.to(out.dtype.element_ty), mask=column < padded_width)


def preprocess(
    image: Tensor, mean: float, std: float, dtype: torch.dtype, *, bgr: bool = False, multiple: int = 32
) -> Tensor:
    """Normalise and zero-pad a picture.

    Args:
        image: uint8 [H, W, 3], any strides.
        mean, std: of pixels in [0, 1].
        dtype: of the result: float16, bfloat16 or float32.
        bgr: whether the channels come in the order blue, green, red.
        multiple: what the padded sides are multiples of.

    Returns:
        [1, 3, H', W'], red first; zero is the mean pixel.

    Raises:
        ValueError: another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8 or not image.numel():
        raise ValueError(f"image must be uint8 [H, W, 3] and not empty, got {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    padded_height, padded_width = (triton.cdiv(side, multiple) * multiple for side in (height, width))
    if 3 * padded_height * padded_width >= 2**31:
        raise ValueError(f"image must have fewer than 2**31 padded values, got {height} x {width} pixels; use tiles")
    out = torch.empty((1, 3, padded_height, padded_width), dtype=dtype, device=image.device)
    row_stride, column_stride, channel_stride = image.stride()
    normalise_pixels[(padded_height, triton.cdiv(padded_width, BLOCKS["BLOCK"]))](
        image[..., 2] if bgr else image, out, height, width, row_stride, column_stride,
        -channel_stride if bgr else channel_stride, padded_height, padded_width, *affine(mean, std),
        **BLOCKS, **OPTIONS,
    )  # fmt: skip
    return out


def affine(mean: float, std: float) -> tuple[float, float]:
    """``scale`` and ``shift`` of the kernel, rounded to float32 as the CPU path rounds them.

    >>> affine(0.5, 0.25)
    (0.01568627543747425, 2.0)
    """
    return float(np.float32(1 / (255 * std))), float(np.float32(mean / std))
