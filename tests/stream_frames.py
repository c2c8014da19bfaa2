"""Frames of a made-up stream, for the tests of what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.result import CountResult
from engine.stream.frame import FrameResult
from engine.zones.layout import ZoneLayout
from engine.zones.members import count_sides, count_zones


def counted_frame(
    index: int = 0,
    timestamp: float | None = None,
    points: Any = ((10.5, 10.5), (50.5, 30.5)),
    *,
    size: tuple[int, int] = (64, 48),
    layout: ZoneLayout | None = None,
    image: bool = True,
    dropped: int = 0,
) -> FrameResult:
    """A frame with people at ``points``; its picture is grey, of a level that tells its index."""
    heads = np.asarray(points, np.float32).reshape(-1, 2)
    layout = layout or ZoneLayout()
    heat = np.zeros((-(-size[1] // 2), -(-size[0] // 2)), np.float32)
    heat[tuple((heads[:, ::-1] // 2).astype(int).T)] = 1
    result = CountResult(
        count=len(heads),
        points=heads,
        scores=np.full(len(heads), 0.5, np.float32),
        heatmap=heat,
        density=heat,
        uncertainty=np.zeros_like(heat),
        interval=(max(0, len(heads) - 1), len(heads) + 2),
        zones=count_zones(heads, layout.zone_corners(size), size),
        lines=count_sides(heads, layout.line_ends(size)),
        image_size=size,
        _image=np.full((size[1], size[0], 3), 40 + 5 * index, np.uint8) if image else None,
        _layout=layout,
    )
    return FrameResult(index, index / 10 if timestamp is None else timestamp, dropped, result)
