"""Pictures for the simulated GPU."""

from __future__ import annotations

import numpy as np


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blobs of eight pixels."""
    blobs = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return np.kron(blobs, np.ones((8, 8, 1), np.uint8))[:height, :width]
