"""The kernels on the CPU; ``engine.kernels.reference`` defines what they compute."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32] | NDArray[np.uint16]

def criss_cross_attention(
    q: _Floats,
    k: _Floats,
    v: _Floats,
    out: _Floats,
    threads: int = 0,
    version: str | None = None,
) -> None:
    """Write to ``out`` [B, H, W, C] the attention of each pixel to its own row and column.

    The arrays are all float32, or all bfloat16: uint16 that holds its bits, or ``ml_dtypes.bfloat16``. Logits, softmax
    and sums are float32 in both.

    Args:
        q: [B, H, W, D], last axis contiguous; q, k and v may be views of one packed tensor.
        k: like q.
        v: [B, H, W, C], last axis contiguous.
        out: [B, H, W, C], C-contiguous, sharing no memory with the others.
        threads: 0 for one per processor; the result does not depend on it.
        version: one of ``attention_versions``; None for the fastest.

    Raises:
        ValueError: an array of another type, shape or layout, arrays of two types, ``out`` overlaps an input, or
            this processor does not have the version.
    """

def attention_versions(type: str) -> list[str]:
    """Versions of ``criss_cross_attention`` in "float32" or "bfloat16" that this processor has, the fastest first.

    Of "avx512_bf16", "avx512", "avx2" and "portable". ValueError for another type.
    """

def ddim_update(
    x_t: NDArray[np.float32],
    x_0: NDArray[np.float32],
    estimate: NDArray[np.float32],
    change: NDArray[np.float32],
    coefficients: Sequence[float] | NDArray[np.float64],
    threads: int = 0,
) -> None:
    """Make one deterministic DDIM step: update ``x_t``, ``estimate`` and ``change`` in place.

    Args:
        x_t: float32, C-contiguous; the other arrays have its shape and share no memory with it.
        x_0: the decoder's estimate of the clean map, only read.
        estimate: the estimate of the step before; becomes this step's.
        change: the weighted sum of changes so far.
        coefficients: ``(alpha, sigma, alpha_next, sigma_next, limit, change_weight)``.
        threads: 0 for one per processor; the result does not depend on it.

    Raises:
        ValueError: an array of another type, shape or layout, or arrays that overlap.
    """

def find_peaks(
    heatmap: NDArray[np.float32], threshold: float, threads: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find the 3x3 local maxima of ``heatmap`` that reach ``threshold``, in raster order.

    Args:
        heatmap: [h, w] float32, C-contiguous.
        threshold: smallest value of a peak.
        threads: 0 for one per processor; the result does not depend on it.

    Returns:
        points float32 [N, 2] as (x, y) in cells, the centre of the first cell being (0.5, 0.5), and
        scores float32 [N].

    Raises:
        ValueError: an array of another type, shape or layout, or a NaN threshold.
    """

def preprocess(
    image: NDArray[np.uint8],
    table: _Floats,
    out: _Floats,
    channels_last: bool = False,
    threads: int = 0,
) -> None:
    """Write ``table[image]`` to ``out``, and zero to the right of the picture and below it.

    Args:
        image: [H, W, 3] uint8, any strides.
        table: [256], the normalised value of each byte; float32, or bfloat16 as uint16 that holds its bits.
        out: [1, 3, H', W'], or [1, H', W', 3] with ``channels_last``, of the type of ``table``, C-contiguous, no
            smaller than the picture, sharing no memory with the others.
        channels_last: the layout of ``out``.
        threads: 0 for one per processor; the result does not depend on it.

    Raises:
        ValueError: an array of another type, shape or layout, arrays of two types, or arrays that overlap.
    """

def to_channels_last(map: _Floats, out: _Floats, threads: int = 0) -> None:
    """Write ``map`` [B, C, H, W] to ``out`` [B, H, W, C].

    Args:
        map: float32, or bfloat16 as uint16 that holds its bits, C-contiguous.
        out: of the same type, C-contiguous, sharing no memory with ``map``.
        threads: 0 for one per processor; the result does not depend on it.

    Raises:
        ValueError: an array of another type, shape or layout, or arrays that overlap.
    """

def has_int8_dot() -> bool:
    """Whether this processor multiplies and sums bytes in one instruction (VNNI); False where that is not known."""
