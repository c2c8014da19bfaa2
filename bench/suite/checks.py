"""Comparison with the oracle, by the tolerances of the test suite."""

from __future__ import annotations

from typing import Any

import numpy as np
from tolerances import GPU_KERNELS, KERNELS, Tolerance

from suite.groups import WrongResultError


def check_close(kernel: str, label: str, out: Any, expected: np.ndarray) -> None:
    """Compare an output with the oracle's.

    Raises:
        WrongResultError: it has another shape, numbers that are not finite, or is further off than its type explains.
    """
    # PyTorch's tensors of half types are none of NumPy's.
    values = np.asarray(out.float() if hasattr(out, "float") else out, np.float64)
    tolerance = tolerance_of(kernel, label)
    if values.shape != expected.shape:
        raise WrongResultError(f"{label} gives shape {values.shape}, the oracle {expected.shape}; it is not timed")
    allowed = tolerance.absolute + tolerance.relative * np.abs(expected)
    # NaN is no smaller than anything.
    wrong = ~(np.abs(values - expected) <= allowed)
    if wrong.any():
        worst = float(np.abs(values - expected).max())
        share = float(wrong.mean())
        raise WrongResultError(
            f"{label} is wrong: {share:.1%} of {kernel}'s output differ from the oracle, by up to {worst:.3g}; "
            f"{tolerance.absolute:g} + {tolerance.relative:g} of the value is allowed; it is not timed"
        )


def tolerance_of(kernel: str, label: str) -> Tolerance:
    """As of the kernel's tests in the type that the label names."""
    for dtype in ("bfloat16", "float16"):
        if dtype in label and (kernel, f"torch.{dtype}") in GPU_KERNELS:
            return GPU_KERNELS[kernel, f"torch.{dtype}"]
    return KERNELS[kernel]
