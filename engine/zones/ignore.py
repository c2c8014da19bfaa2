"""Zones in which nobody counts: posters, statues, pictures on a screen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engine.zones.members import cells_inside, in_any, zone_interval


def leave_out(
    points: np.ndarray, interval: tuple[int, int], ignored: Mapping[str, np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Who counts, and the interval of their number.

    Args:
        points: float32 [N, 2], (x, y) of everybody, in pixels.
        interval: of N.
        ignored: corners float64 [M, 2] of zones, by name.
        size: (width, height) of the picture.

    Returns:
        bool [N], false for who is in one of the zones; and :func:`engine.zones.members.zone_interval` of the rest of
        the picture, as if that were a zone.
    """
    kept = ~in_any(points, ignored, size)
    return kept, zone_interval(int(kept.sum()), len(points), interval)


def blank(cells: np.ndarray, ignored: Mapping[str, np.ndarray], stride: int) -> np.ndarray:
    """A copy of a map [h, w] that is 0 in the zones; ``stride`` is a cell's side in pixels."""
    blanked = cells.copy()
    for corners in ignored.values():
        blanked[cells_inside(cells.shape, corners / stride)] = 0
    return blanked
