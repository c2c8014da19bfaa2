"""In how many people two runs differ, on points whose answer is known, and on the shipped model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bundle.bundle import load_bundle
from engine.export import quantize
from engine.export.agreement import disagreement

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"
FOUR = np.array([[10, 10], [30, 10], [50, 10], [70, 10]], np.float32)
NOBODY = np.zeros((0, 2), np.float32)


@pytest.mark.parametrize(
    ("exact", "rounded", "expected"),
    [
        ([FOUR], [FOUR[::-1]], 0),
        ([FOUR], [np.add(FOUR, [0, 4])], 0),
        # One is 5 pixels off: three of four are found again.
        ([FOUR], [np.add(FOUR, [[0, 0], [0, 5], [0, 0], [0, 0]])], 1 / 4),
        # One is lost: a quarter of the count, and F1 is 6 / 7.
        ([FOUR], [FOUR[:3]], 1 / 4),
        # Two counts that are off by one in opposite ways do not make up for each other.
        ([FOUR, FOUR], [FOUR[:3], np.vstack([FOUR, [[90, 10]]])], 2 / 8),
        # Only one of two points can be the one head, and the other is too many.
        ([FOUR[:1]], [np.array([[9, 10], [12, 10]], np.float32)], 1),
        ([FOUR], [NOBODY], 1),
        ([FOUR, NOBODY], [FOUR, FOUR[:1]], 1 / 4),
    ],
)
def test_known_cases(exact: list[np.ndarray], rounded: list[np.ndarray], expected: float) -> None:
    assert disagreement(exact, rounded) == pytest.approx(expected)


def test_a_damaged_decoder_is_seen_when_quantising() -> None:
    """Counts alone do not show it: they are the encoder's."""
    quantizer = quantize._Quantizer(load_bundle("default"), [PICTURE], progress=False)
    quantizer.measure()
    # "merge.conv" reads joined tensors, and stays float.
    decoder = {key for key in quantizer._keys if key[0] == "decoder"} - quantizer.joining()
    fine = quantizer.error(decoder)
    narrow = {name: replace(grid, limit=grid.limit / 8) for name, grid in quantizer._grids["decoder"].items()}
    quantizer._grids = {**quantizer._grids, "decoder": narrow}
    assert fine < 0.05 < quantizer.error(decoder)
