"""bfloat16 on the host, which NumPy does not have: its bits in uint16."""

from __future__ import annotations

import numpy as np

from engine.backends.cuda.arrays import from_storage, to_storage


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Bits of float32 ``values``, rounded to the nearest."""
    return to_storage(values, "bfloat16")


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 values of the bits."""
    return from_storage(bits, "bfloat16")
