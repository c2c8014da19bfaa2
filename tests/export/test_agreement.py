"""How far two runs differ, where the answer is known, and of the shipped model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.bundle.bundle import load_bundle
from engine.export import quantize
from engine.export.agreement import Heads, disagreement

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"
PEAKS = np.array([[0, 1, 0, 0.5], [0, 0, 0.5, 0]], np.float32)
FLAT = np.zeros((2, 4), np.float32)


@pytest.mark.parametrize(
    ("exact", "rounded", "expected"),
    [
        ([(4, PEAKS)], [(4, PEAKS)], 0),
        # One of four is lost.
        ([(4, PEAKS)], [(3, PEAKS)], 1 / 4),
        # Two counts that are off by one in opposite ways do not make up for each other.
        ([(4, PEAKS), (4, PEAKS)], [(3, PEAKS), (5, PEAKS)], 2 / 8),
        ([(4, PEAKS), (0, FLAT)], [(4, PEAKS), (1, FLAT)], 1 / 4),
        # Every peak has moved by a cell: nothing of the map is where it was.
        ([(4, PEAKS)], [(4, np.roll(PEAKS, 1, axis=1))], 1 / 5),
        # The peak of 1 is half as high: 0.5 of 2 + 1.5 is gone.
        ([(4, PEAKS)], [(4, PEAKS.clip(max=0.5))], 1 / 7 / 5),
        # Maps are summed over all pictures before the division.
        ([(4, PEAKS), (1, PEAKS / 2)], [(4, PEAKS), (1, FLAT)], 1 / 5 / 5),
        # The larger of both.
        ([(2, PEAKS)], [(0, np.roll(PEAKS, 1, axis=1))], 1),
        ([(4, FLAT)], [(4, FLAT)], 0),
    ],
)
def test_known_cases(exact: list[Heads], rounded: list[Heads], expected: float) -> None:
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
