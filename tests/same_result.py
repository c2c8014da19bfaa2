"""Whether two results are the same, to the last bit."""

from __future__ import annotations

import numpy as np

import engine

MAPS = ("points", "scores", "heatmap", "density", "uncertainty")


def same_result(a: engine.CountResult, b: engine.CountResult) -> bool:
    """All that a count gives but its times and words."""
    return all(np.array_equal(getattr(a, x), getattr(b, x)) for x in MAPS) and a.interval == b.interval
