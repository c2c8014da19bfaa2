"""The kernels on the CPU; ``engine.kernels.reference`` defines what they compute."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def criss_cross_attention(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    out: NDArray[np.float32],
    threads: int = 0,
) -> None:
    """Write to ``out`` [B, H, W, C] the attention of each pixel to its own row and column.

    Args:
        q: [B, H, W, D] float32, last axis contiguous; q, k and v may be views of one packed tensor.
        k: like q.
        v: [B, H, W, C] float32, last axis contiguous.
        out: [B, H, W, C] float32, C-contiguous, sharing no memory with the others.
        threads: 0 for one per processor; the result does not depend on it.

    Raises:
        ValueError: an array of another type, shape or layout, or ``out`` overlaps an input.
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
