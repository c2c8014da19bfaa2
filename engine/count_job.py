"""One picture on its way from pixels to its result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from engine.backends.base import Backend, Request, Start, Work
from engine.backends.cuda.device_arrays import DeviceImage
from engine.backends.cuda.driver import CudaOutOfMemoryError
from engine.bundle.bundle import Bundle
from engine.config import CountingRule
from engine.counting.heads import candidate_threshold, count_heads, density_map
from engine.counting.stitching import Canvas
from engine.diffusion.latent import TileMaps
from engine.errors import ImageError, NotFiniteError
from engine.image.load import load_image
from engine.image.pixels import is_dark
from engine.image.tiles import Tile, plan_tiles
from engine.result import CountResult
from engine.system.stopwatch import Stopwatch
from engine.zones.doubts import doubts
from engine.zones.ignore import blank, leave_out
from engine.zones.layout import ZoneLayout
from engine.zones.members import count_sides, count_zones

# What one picture may fail with, and the next, or a smaller one, does not.
OF_ONE_PICTURE = (ImageError, OSError, NotFiniteError, CudaOutOfMemoryError)
# Pictures with a side below this many pixels are counted with a warning.
_SMALL_SIDE = 64


@dataclass(frozen=True)
class CountPlan:
    """What is counted in every picture of a call.

    Attributes:
        start: map of the whole picture to start the denoising from; None for noise.
        rule_steps: take the counting rule of that many steps, where it is not ``steps``.
        expect: what the rule is to expect, from the number of heads that the encoder expects.
        reading: options of :func:`engine.image.load.load_image`, for pictures that are read here.
    """

    bundle: Bundle
    steps: int
    samples: int
    seed: int
    zones: ZoneLayout
    start: Start | None = None
    rule_steps: int | None = None
    expect: Callable[[float], float] = float
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rule(self) -> CountingRule:
        return self.bundle.rule(self.rule_steps or self.steps)

    @property
    def has_spread(self) -> bool:
        """Whether the maps have a spread; one step of one sample, from whatever start, has nothing to differ from."""
        return self.steps > 1 or self.samples > 1


@dataclass(frozen=True)
class Taken:
    """A picture that was read already, as the backend takes it, and what there was to say about it."""

    image: Any
    notes: tuple[str, ...]

    @classmethod
    def load(cls, backend: Backend, img: Any, color: str, stream: Any, plan: CountPlan) -> Taken:
        """Whatever a user gives, or what was taken before."""
        if isinstance(img, Taken):
            return cls(backend.load(img.image, color, stream), img.notes)
        notes: list[str] = []
        return cls(
            backend.load(img, color, stream, partial(load_image, **plan.reading, warn=notes.append)), tuple(notes)
        )


class CountJob:
    """One picture on its way to its result, tile by tile."""

    def __init__(self, image: Any, plan: CountPlan, clock: Stopwatch, notes: tuple[str, ...] = ()):
        self._notes = notes
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
            image = self._image[tile.top : tile.bottom, tile.left : tile.right]
            yield image, replace(request, start=self._start(tile)), self._clock

    def paste(self, maps: TileMaps) -> bool:
        """Add the maps of the next tile; true if it was the last one."""
        self._canvas.paste(self._missing.popleft(), maps)
        return not self._missing

    def finish(self, backend: Backend) -> CountResult:
        """Turn the maps into the result."""
        plan, canvas, size = self._plan, self._canvas, (self._width, self._height)
        found = canvas.peaks
        maps = canvas.maps(plan.has_spread)
        maps = replace(maps, expected=plan.expect(maps.expected))
        counted = count_heads(maps, plan.rule, backend.find_peaks if found is None else lambda *_: found)
        stride = np.float32(plan.bundle.model.map_stride)
        points = np.minimum(counted.points * stride, np.array(size, np.float32))
        if ignored := plan.zones.ignored_corners(size):
            kept, interval = leave_out(points, counted.interval, ignored)
            counted = replace(counted, points=counted.points[kept], scores=counted.scores[kept], interval=interval)
            points = points[kept]
            heatmap, spread = (blank(cells, ignored, int(stride)) for cells in (maps.heatmap, maps.spread))
            maps = replace(maps, heatmap=heatmap, spread=spread)
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
            zones=count_zones(points, plan.zones.zone_corners(size), size),
            lines=count_sides(points, plan.zones.line_ends(size)),
            image_size=size,
            timings=self._clock.timings(),
            warnings=(*self._notes, *self._warnings(counted.familiar)),
            _layout=plan.zones,
            _image=None if isinstance(self._image, DeviceImage) else self._image,
        )

    def _start(self, tile: Tile) -> Start | None:
        start, stride = self._plan.start, self._plan.bundle.model.map_stride
        if start is None:
            return None
        rows, columns = (
            slice(first // stride, -(-last // stride))
            for first, last in ((tile.top, tile.bottom), (tile.left, tile.right))
        )
        return replace(start, heatmap=start.heatmap[rows, columns])

    def _warnings(self, familiar: bool) -> list[str]:
        warnings, width, height = [], self._width, self._height
        if min(width, height) < _SMALL_SIDE:
            warnings.append(f"the picture is only {width} x {height} pixels; heads of under 4 pixels are missed")
        if not isinstance(self._image, DeviceImage) and is_dark(self._image):
            warnings.append("the picture is very dark; people whom one can hardly see are missed")
        if len(self._tiles) > 1:
            tiles = len(self._tiles)
            warnings.append(f"the picture was counted in {tiles} overlapping tiles, as it has {width * height} pixels")
        if not familiar:
            warnings.append("the picture is unlike those that the model was calibrated on; its count may be far off")
        return [*warnings, *doubts(self._plan.zones, (width, height))]

    def close(self) -> None:
        """Give a picture on the GPU back to its owner."""
        if isinstance(self._image, DeviceImage):
            self._image.close()


def attempt(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``function``, which returns an error of :data:`OF_ONE_PICTURE` in place of raising it, and those that it gets."""

    def attempted(item: Any) -> Any:
        try:
            return item if isinstance(item, Exception) else function(item)
        except OF_ONE_PICTURE as error:
            return error

    return attempted
