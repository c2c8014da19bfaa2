"""One picture on its way from its tiles to its heads: the tiles' maps are stitched together, and counted once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from engine.config import FEATURE_STRIDE, CountingRule, ModelConfig
from engine.counting.heads import Counted, FindPeaks, HeadMaps, candidate_threshold, count_heads, distance
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Request, Start
from engine.image.load import load_image
from engine.image.tiles import Picture, Tile, plan_tiles
from engine.system.stopwatch import Stopwatch
from engine.zones.layout import NO_ZONES, ZoneLayout

# Pictures with a side below this many pixels are counted with a warning.
_SMALL_SIDE = 64
# A picture is dark if so many percent of its pixels, of a grid of so many rows and columns, are below this level.
_BRIGHT_SHARE, _LOOKS, _DARK = 90, 64, 64


@dataclass(frozen=True)
class CountPlan:
    """What is counted in every picture of a call.

    Attributes:
        model: shape of the network.
        rule: how peaks become a count.
        steps, samples, seed: of the sampler.
        start: map of the whole picture to start the denoising from; None for noise.
        expect: what the rule is to expect, from the number of heads that the encoder expects.
        reading: options of :func:`engine.image.load.load_image`, for pictures that are read for the call.
        cuda_stream: that arrays on a GPU are written in, if their library does not tell.
        layout: zones and lines whose people are counted too.
    """

    model: ModelConfig
    rule: CountingRule
    steps: int
    samples: int
    seed: int
    start: Start | None = None
    expect: Callable[[float], float] = float
    reading: Mapping[str, Any] = field(default_factory=dict)
    cuda_stream: Any = None
    layout: ZoneLayout = NO_ZONES

    @property
    def has_spread(self) -> bool:
        """Whether the maps have a spread; one step of one sample, from whatever start, has nothing to differ from."""
        return self.steps > 1 or self.samples > 1


@dataclass(frozen=True)
class Snapshot:
    """What a backend's ``snapshot`` gave, and what there was to say when the picture was read."""

    pixels: Any
    notes: tuple[str, ...]


def take_snapshot(snapshot: Callable[..., Any], plan: CountPlan, picture: tuple[Any, str]) -> tuple[Any, str]:
    """A picture and its order of channels, in memory of their own, by the ``snapshot`` of a backend.

    Its owner may overwrite it then, though it is counted later. What is in a file stays there.
    """
    img, color = picture
    if isinstance(img, str | bytes | os.PathLike):
        return picture
    notes: list[str] = []
    pixels = snapshot(img, color=color, **plan.reading, warn=notes.append)
    return Snapshot(pixels, tuple(notes)), "rgb"


class CountJob:
    """One picture on its way to its heads, tile by tile.

    Args:
        picture: as a backend has loaded it.
        plan: of the call.
        clock: of the picture.
        notes: what there was to say when the picture was read.

    Attributes:
        picture, plan, clock: as given.
        tiles: of the picture, in the order in which their maps are stitched.
    """

    def __init__(self, picture: Picture, plan: CountPlan, clock: Stopwatch, notes: tuple[str, ...] = ()):
        self._notes = notes
        self.picture, self.plan, self.clock = picture, plan, clock
        height, width = picture.shape[:2]
        self.tiles = plan_tiles(height, width)
        self._missing = deque(self.tiles)
        self._canvas = Canvas(height, width, plan.model)

    @classmethod
    def load(cls, load: Callable[..., Picture], img: Any, color: str, plan: CountPlan) -> CountJob:
        """Read a picture, or a :class:`Snapshot`, by the ``load`` of a backend."""
        clock = Stopwatch()
        if isinstance(img, Snapshot):
            picture, notes = load(img.pixels, color, plan.cuda_stream), [*img.notes]
        else:
            notes = []
            picture = load(img, color, plan.cuda_stream, partial(load_image, **plan.reading, warn=notes.append))
        clock.lap("load")
        return cls(picture, plan, clock, tuple(notes))

    def work(self) -> Iterator[tuple[object, Request, Stopwatch]]:
        """What a backend is to infer: each tile with its request, and the clock of the picture."""
        plan = self.plan
        # The peaks of a picture in several tiles are those of the stitched maps.
        threshold = candidate_threshold(plan.rule) if len(self.tiles) == 1 else None
        request = Request(plan.steps, plan.samples, plan.seed, threshold)
        return ((self.picture.crop(x), replace(request, start=self._start(x)), self.clock) for x in self.tiles)

    def stitch(self, maps: TileMaps) -> bool:
        """Add the maps of the next tile; true if it was the last one."""
        self._canvas.paste(self._missing.popleft(), maps)
        return not self._missing

    def count(self, find_peaks: FindPeaks) -> tuple[HeadMaps, Counted]:
        """The stitched maps and their heads, once the last tile is there.

        Args:
            find_peaks: of the backend, for a picture of several tiles.

        Raises:
            NotFiniteError: the maps have numbers that are not finite.
        """
        plan, canvas = self.plan, self._canvas
        found = canvas.peaks
        maps = canvas.maps(plan.has_spread)
        maps = replace(maps, expected=plan.expect(maps.expected))
        return maps, count_heads(maps, plan.rule, find_peaks if found is None else lambda *_: found)

    def warnings(self, in_distribution: bool) -> list[str]:
        """What the user should know of the picture before the count is relied on."""
        height, width = self.picture.shape[:2]
        warnings = list(self._notes)
        if min(width, height) < _SMALL_SIDE:
            warnings.append(f"the picture is only {width} x {height} pixels; heads of under 4 pixels are missed")
        if self.picture.pixels is not None and is_dark(self.picture.pixels):
            warnings.append("the picture is very dark; people whom one can hardly see are missed")
        if len(self.tiles) > 1:
            number, pixels = len(self.tiles), width * height
            warnings.append(f"the picture was counted in {number} overlapping tiles, as it has {pixels} pixels")
        if not in_distribution:
            warnings.append("the picture is unlike those that the model was calibrated on; its count may be far off")
        return warnings

    def close(self) -> None:
        """Give the picture back to its owner."""
        self.picture.close()

    def _start(self, tile: Tile) -> Start | None:
        start, stride = self.plan.start, self.plan.model.map_stride
        if start is None:
            return None
        rows, columns = _cells(tile.top, tile.bottom, stride), _cells(tile.left, tile.right, stride)
        return replace(start, heatmap=start.heatmap[rows, columns])


def stitch_all(
    infer_all: Callable[..., Generator[TileMaps, None, None]], jobs: Iterable[CountJob]
) -> Generator[CountJob, None, None]:
    """Each job once its last tile is stitched; it is closed when the next one is asked for.

    Args:
        infer_all: of the backend, which may read the next pictures before it gives the maps of this one.
    """
    begun: deque[CountJob] = deque()

    def work() -> Iterator[tuple[object, Request, Stopwatch]]:
        for job in jobs:
            begun.append(job)
            yield from job.work()

    try:
        with closing(infer_all(work())) as results:
            for maps in results:
                if begun[0].stitch(maps):
                    yield begun[0]
                    begun.popleft().close()
    finally:
        for job in begun:
            job.close()


def is_dark(rgb: np.ndarray) -> bool:
    """Whether a picture uint8 [H, W, 3] is so dark that one can hardly see anybody, judged by some thousand pixels."""
    height, width = rgb.shape[:2]
    looked_at = rgb[:: -(-height // _LOOKS), :: -(-width // _LOOKS)]
    return bool(np.percentile(looked_at.max(axis=2), _BRIGHT_SHARE) < _DARK)


class Canvas:
    """The head maps of one picture, filled tile by tile.

    Args:
        height, width: of the picture, in pixels.

    Attributes:
        shape: (h, w) of the maps, in cells.
        peaks: points and scores, where the backend has found those of the whole picture.
    """

    def __init__(self, height: int, width: int, model: ModelConfig):
        self._stride, self._area = model.map_stride, height * width
        self._cells = FEATURE_STRIDE // model.map_stride
        self.shape = -(-height // self._stride), -(-width // self._stride)
        self._heatmap = np.zeros(self.shape, np.float32)
        self._spread = np.zeros(self.shape, np.float32)
        self._rate = np.zeros((-(-height // FEATURE_STRIDE), -(-width // FEATURE_STRIDE)), np.float32)
        self._expected = 0.0
        self._signature: Any = 0.0
        self.peaks: tuple[np.ndarray, np.ndarray] | None = None

    def paste(self, tile: Tile, maps: TileMaps) -> None:
        """Copy the core of one tile; its halo and padding are left out."""
        rows = _cells(tile.core_top, tile.core_bottom, self._stride)
        columns = _cells(tile.core_left, tile.core_right, self._stride)
        core = _core(tile, self._stride)
        self._heatmap[rows, columns] = maps.heatmap[core]
        self._spread[rows, columns] = maps.spread[core]
        # A backend looks for peaks only where one tile is the whole picture.
        self.peaks = maps.peaks
        rate = maps.rate[_core(tile, FEATURE_STRIDE)]
        rows = _cells(tile.core_top, tile.core_bottom, FEATURE_STRIDE)
        self._rate[rows, _cells(tile.core_left, tile.core_right, FEATURE_STRIDE)] = rate
        self._expected += float(rate.sum(dtype=np.float64))
        # The mean features of the picture are those of its tiles, each by its share.
        area = (tile.core_bottom - tile.core_top) * (tile.core_right - tile.core_left)
        self._signature = self._signature + maps.signature * np.float64(area / self._area)

    def maps(self, has_spread: bool) -> HeadMaps:
        """The maps of all tiles pasted so far."""
        far = distance(self._signature)
        return HeadMaps(self._heatmap, self._spread, self._rate, self._cells, self._expected, has_spread, far)


def _cells(start: int, end: int, stride: int) -> slice:
    return slice(start // stride, -(-end // stride))


def _core(tile: Tile, stride: int) -> tuple[slice, slice]:
    """The cells of the tile's core, counted from the tile's own corner."""
    rows = _cells(tile.core_top - tile.top, tile.core_bottom - tile.top, stride)
    return rows, _cells(tile.core_left - tile.left, tile.core_right - tile.left, stride)
