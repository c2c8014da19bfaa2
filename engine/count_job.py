"""One picture on its way from pixels to its result."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.backends.base import Backend, Request, Work
from engine.backends.cuda.device_arrays import DeviceImage
from engine.bundle import Bundle
from engine.canvas import Canvas
from engine.config import CountingRule
from engine.counting import Polygon, candidate_threshold, count_heads, count_zones, density_map
from engine.maps import TileMaps
from engine.preprocess import plan_tiles
from engine.result import CountResult
from engine.stopwatch import Stopwatch

# Pictures with a side below this many pixels are counted with a warning.
_SMALL_SIDE = 64


@dataclass(frozen=True)
class CountPlan:
    """What is counted in every picture of a call."""

    bundle: Bundle
    steps: int
    samples: int
    seed: int
    zones: Mapping[str, Polygon] | None

    @property
    def rule(self) -> CountingRule:
        return self.bundle.rule(self.steps)


class CountJob:
    """One picture on its way to its result, tile by tile."""

    def __init__(self, image: Any, plan: CountPlan, clock: Stopwatch):
        self._image, self._plan, self._clock = image, plan, clock
        self._height, self._width = image.shape[:2]
        self._tiles = plan_tiles(self._height, self._width)
        self._missing = deque(self._tiles)
        self._canvas = Canvas(self._height, self._width, plan.bundle.model)

    def work(self) -> Iterator[Work]:
        plan = self._plan
        # Of several tiles, the peaks are those of the maps laid together.
        threshold = candidate_threshold(plan.rule) if len(self._tiles) == 1 else None
        request = Request(plan.steps, plan.samples, plan.seed, threshold)
        for tile in self._tiles:
            yield self._image[tile.top : tile.bottom, tile.left : tile.right], request, self._clock

    def paste(self, maps: TileMaps) -> bool:
        """Add the maps of the next tile; true if it was the last one."""
        self._canvas.paste(self._missing.popleft(), maps)
        return not self._missing

    def finish(self, backend: Backend) -> CountResult:
        """Turn the maps into the result."""
        plan, canvas, width, height = self._plan, self._canvas, self._width, self._height
        found = canvas.peaks
        maps = canvas.maps(has_spread=plan.steps > 1 or plan.samples > 1)
        counted = count_heads(maps, plan.rule, backend.find_peaks if found is None else lambda *_: found)
        stride = np.float32(plan.bundle.model.map_stride)
        points = np.minimum(counted.points * stride, np.array([width, height], np.float32))
        density = density_map(counted.points, *canvas.shape)
        self._clock.lap("peaks")
        return CountResult(
            count=len(points),
            points=points,
            scores=counted.scores,
            heatmap=maps.heatmap,
            density=density,
            uncertainty=maps.spread,
            interval=counted.interval,
            zones=count_zones(points, plan.zones),
            image_size=(width, height),
            timings=self._clock.timings(),
            warnings=_warnings(height, width, len(self._tiles)),
            _image=None if isinstance(self._image, DeviceImage) else self._image,
        )

    def close(self) -> None:
        """Give a picture on the GPU back to its owner."""
        if isinstance(self._image, DeviceImage):
            self._image.close()


def _warnings(height: int, width: int, tiles: int) -> tuple[str, ...]:
    warnings = []
    if min(height, width) < _SMALL_SIDE:
        warnings.append(f"the picture is only {width} x {height} pixels; heads of under 4 pixels are missed")
    if tiles > 1:
        warnings.append(f"the picture was counted in {tiles} overlapping tiles, as it has {width * height} pixels")
    return tuple(warnings)
