"""Arrays that came through a pickle, as those of other processes do, are taken as others are by every kernel.

Their types are equal to NumPy's, but not the same objects.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from engine import _core


def _pickled(array: np.ndarray) -> np.ndarray:
    copy = pickle.loads(pickle.dumps(array))
    assert copy.dtype is not array.dtype
    return copy


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def _outputs(kernel: str, arrays: list[np.ndarray], *more: Any) -> list[bytes]:
    found = getattr(_core, kernel)(*arrays, *more)
    return [x.tobytes() for x in (*arrays, *(found or ()))]


@pytest.mark.parametrize(
    ("kernel", "arrays", "more"),
    [
        ("find_peaks", [_random(9, 7)], [0.5]),
        ("ddim_update", [_random(4, 5) for _ in range(4)], [(0.5, 0.5, 0.9, 0.1, 1.0, 0.5)]),
        ("criss_cross_attention", [*[_random(1, 3, 5, 8)] * 3, np.zeros((1, 3, 5, 8), np.float32)], []),
        ("preprocess", [np.full((5, 6, 3), 7, np.uint8), _random(256), np.zeros((1, 3, 32, 32), np.float32)], []),
        (
            "preprocess",
            [np.full((5, 6, 3), 7, np.uint8), np.arange(256, dtype=np.uint16), np.zeros((1, 3, 32, 32), np.uint16)],
            [],
        ),
        ("to_channels_last", [_random(1, 3, 4, 5), np.zeros((1, 4, 5, 3), np.float32)], []),
    ],
    ids=["find_peaks", "ddim_update", "attention", "preprocess", "preprocess in bfloat16", "to_channels_last"],
)
def test_they_are_taken(kernel: str, arrays: list[np.ndarray], more: list[Any]) -> None:
    copies = [_pickled(x) for x in arrays]
    assert _outputs(kernel, copies, *more) == _outputs(kernel, [x.copy() for x in arrays], *more)
