"""Two small pictures with three heads each."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine.dataset.samples import Sample


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    """Dark pictures with a bright block at each of three heads, one picture in each of two parts."""
    made = []
    for number, part in enumerate(("part_A", "part_B")):
        rng = np.random.default_rng(number)
        points = rng.uniform(8, 72, (3, 2)).astype(np.float32)
        pixels = rng.integers(0, 60, (80, 80, 3), np.uint8)
        for x, y in points.astype(int):
            pixels[y - 3 : y + 4, x - 3 : x + 4] = 240
        path = tmp_path / f"{part}_{number}.png"
        Image.fromarray(pixels).save(path)
        made.append(Sample(path, points, part))
    return made
