"""What a count returns: the number, where everyone is, how sure it is, and ways to show and save it."""

from __future__ import annotations

import copy
import io
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from engine.counting.heads import FindPeaks, density_map
from engine.counting.stitching import CountJob
from engine.drawing.notebook import result_html, shown_png
from engine.drawing.overlay import count_texts, crowding, draw_overlay, heat_of_heads
from engine.drawing.picture_file import KINDS, SAVED, encode_picture
from engine.drawing.zones import line_marks, zone_marks
from engine.errors import ConfigError, EngineError, MapsNotKeptError
from engine.image.load import load_image
from engine.system.files import write_whole
from engine.system.text import json_text, plain
from engine.zones.doubts import doubts
from engine.zones.ignore import blank, leave_out
from engine.zones.layout import NO_ZONES, ZoneLayout
from engine.zones.members import count_sides, count_zones, zone_interval

if TYPE_CHECKING:
    import supervision

_MAPS = ("heatmap", "density", "uncertainty")
_ARRAYS = ("points", "scores", *_MAPS)


@dataclass(frozen=True, eq=False)
class CountResult:
    """The people in one picture.

    The arrays are read-only. The result keeps a reference to the picture (3 bytes a pixel), so that
    :meth:`plot` needs no argument. With its maps that is some 6 bytes a pixel; :meth:`without_maps` leaves about a
    hundred bytes a person.

    Attributes:
        count: number of people.
        points: float32 [N, 2], (x, y) of each head in pixels of the upright picture; the centre of the first pixel is
            (0.5, 0.5).
        scores: float32 [N], height of each head's peak.
        heatmap: float32 [h, w] in [0, 1], one peak for each head.
        density: float32 [h, w], people per cell; sums to ``count``.
        uncertainty: float32 [h, w] in [0, 1], how much the map still moved between steps and samples.
        interval: (low, high), whole people.
        zones: people in each named zone.
        lines: people on the (left, right) of each named line, as seen when walking from its start to its end.
        image_size: (width, height) of the upright picture.
        timings: milliseconds of each stage, and their sum as "total". On a CPU the stages are "load", "preprocess",
            "encode", "denoise" and "peaks"; backend "torch" on a GPU has "encode" within "denoise". Those of backend
            "tensorrt" are "load", "upload", "launch", "wait" and "peaks"; its "gpu" is no further stage, but what the
            GPU took within "launch" and "wait".
        warnings: what may make this count less reliable.

    >>> zero = np.zeros((1, 1), np.float32)
    >>> result = CountResult(1, np.array([[0.5, 0.5]], np.float32), np.ones(1, np.float32), zero, zero + 1, zero,
    ...                      interval=(1, 2), image_size=(2, 2))
    >>> print(result, int(result))
    1 person (1-2) 1
    """

    count: int
    points: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    heatmap: np.ndarray = field(repr=False)
    density: np.ndarray = field(repr=False)
    uncertainty: np.ndarray = field(repr=False)
    interval: tuple[int, int]
    image_size: tuple[int, int]
    zones: dict[str, int] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    _image: np.ndarray | None = field(default=None, repr=False)
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)
    _layout: ZoneLayout = field(default=NO_ZONES, repr=False)

    def __post_init__(self) -> None:
        assert self.points.shape == (len(self.scores), 2)
        assert self.scores.ndim == 1
        assert self.heatmap.ndim == self.density.ndim == self.uncertainty.ndim == 2
        for name in (*_ARRAYS, "_image"):
            array = getattr(self, name)
            if array is None:
                continue
            # A view: the caller's own array stays as writable as it was.
            view = np.asarray(array, np.uint8 if name == "_image" else np.float32).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __getattr__(self, name: str) -> Any:
        # Asked for what is not there alone.
        if name in _MAPS:
            raise MapsNotKeptError(
                f"this result has no {name}, as it was counted with maps=False; count with maps=True"
            )
        raise AttributeError(f"CountResult has no attribute {name!r}")

    def without_maps(self) -> CountResult:
        """The same result without its maps and its picture: count, points, scores, interval, zones and lines.

        What needs a map, such as ``result.density`` or ``save("map.npy")``, raises EngineError then. ``plot(image,
        heatmap=False)`` draws the points on a picture that it is given.
        """
        slim = copy.copy(self)
        for name in _MAPS:
            slim.__dict__.pop(name, None)
        # Copies: they may be views of all candidates.
        slim.__setstate__({"points": self.points.copy(), "scores": self.scores.copy(), "_image": None})
        return slim

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Arrays that come out of a pickle, or are copied, are writable.
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self.__dict__.update(state)

    def __str__(self) -> str:
        return f"{count_texts(self.count, self.interval)[1]} ({self.interval[0]}-{self.interval[1]})"

    def __int__(self) -> int:
        return int(self.count)

    @property
    def zone_intervals(self) -> dict[str, tuple[int, int]]:
        """(low, high) of the people in each zone (:func:`engine.zones.members.zone_interval`)."""
        return {name: zone_interval(people, self.count, self.interval) for name, people in self.zones.items()}

    def plot(
        self,
        image: Any = None,
        *,
        heatmap: bool = True,
        points: bool = True,
        uncertainty: bool = False,
        zones: bool = True,
    ) -> Image.Image:
        """Draw the result on its picture.

        Args:
            image: a picture to draw on instead, as :func:`engine.image.load.load_image` takes (arrays are RGB).
            heatmap: colour the places where people are, the more crowded the brighter (viridis).
            points: a dot on each head.
            uncertainty: colour what the model was unsure of; the two layers share the colours, so this takes
                the place of ``heatmap``.
            zones: outline the zones and lines, with the people in each.

        Returns:
            RGB image of the size of the picture, with the count and its interval in the corner.

        Raises:
            ConfigError: there is no picture, or ``image`` has another size than ``image_size``.
        """
        pixels = self._image if image is None else load_image(image)
        if pixels is None:
            raise ConfigError("this result was made without its picture; pass it: result.plot(image)")
        size = (pixels.shape[1], pixels.shape[0])
        if size != tuple(self.image_size):
            raise ConfigError(f"the picture is {size[0]}x{size[1]} pixels, but {self.image_size} was counted")
        heat = self.uncertainty if uncertainty else heat_of_heads(crowding(self.heatmap)) if heatmap else None
        return draw_overlay(
            pixels,
            heat=heat,
            points=self.points if points else None,
            banner=count_texts(self.count, self.interval),
            zones=zone_marks(self._layout, size, self.zones) if zones else (),
            lines=line_marks(self._layout, size, self.lines) if zones else (),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result to a file, which appears whole or not at all.

        Args:
            path: its suffix says what is written: .png, .jpg, .jpeg, .webp, .bmp, .tif or .tiff the picture that
                :meth:`plot` draws; .json :meth:`to_json`; .csv the points, with header x,y,score; .npy the
                density map (float32, sums to the count).

        Raises:
            ConfigError: another suffix, or the folder does not exist.
            OSError: the file cannot be written.
        """
        data = self.encode((path := Path(path)).suffix)
        if not path.parent.is_dir():
            raise ConfigError(f"cannot save {path}: the folder {path.parent} does not exist; create it first")
        write_whole(path, data)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps, as numbers, strings, lists and dicts that JSON has."""
        return {
            "count": int(self.count),
            "interval": [int(end) for end in self.interval],
            "points": plain(self.points),
            "scores": plain(self.scores),
            "zones": {name: int(people) for name, people in self.zones.items()},
            "zone_intervals": {name: [int(end) for end in ends] for name, ends in self.zone_intervals.items()},
            "lines": {name: [int(side) for side in sides] for name, sides in self.lines.items()},
            "image_size": [int(side) for side in self.image_size],
            "timings": {stage: float(time) for stage, time in self.timings.items()},
            "warnings": list(self.warnings),
        }

    def to_json(self, indent: int | None = None) -> str:
        """:meth:`to_dict` as JSON text."""
        data = self.to_dict()
        return json_text(data) if indent is None else json.dumps(data, indent=indent, allow_nan=False)

    def _repr_png_(self) -> bytes | None:
        """The picture for notebooks; None where there is none."""
        return None if self._image is None else shown_png(self.plot())

    def _repr_html_(self) -> str:
        """The picture and the numbers for notebooks."""
        return result_html(str(self), self.zones, self.zone_intervals, self.lines, self.warnings, self._repr_png_())

    def to_supervision(self) -> supervision.Detections:
        """The points as ``supervision.Detections``: boxes without area, of class 0, with the scores as confidence.

        Raises:
            EngineError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise EngineError("to_supervision() needs supervision; install it: pip install supervision") from error
        return supervision.Detections(
            xyxy=np.hstack([self.points, self.points]),
            confidence=self.scores.copy(),
            class_id=np.zeros(len(self.points), int),
        )

    def encode(self, suffix: str) -> bytes:
        """What :meth:`save` would write into a file whose name ends in ``suffix``, such as ".png".

        Raises:
            ConfigError: another suffix, or a picture that the format cannot hold.
        """
        suffix = suffix.lower()
        if suffix == ".json":
            return (self.to_json() + "\n").encode()
        if suffix == ".csv":
            rows = zip(plain(self.points), plain(self.scores), strict=True)
            return "".join(["x,y,score\n", *(f"{x},{y},{score}\n" for (x, y), score in rows)]).encode()
        if suffix == ".npy":
            np.save(file := io.BytesIO(), self.density, allow_pickle=False)
            return file.getvalue()
        if suffix in KINDS:
            return encode_picture(self.plot(), suffix)
        raise ConfigError(f"nothing is saved as {suffix!r}; use one of {', '.join(SAVED)}")


def make_result(job: CountJob, find_peaks: FindPeaks) -> CountResult:
    """Count the heads of a picture whose maps are stitched, by the ``find_peaks`` of a backend.

    Raises:
        NotFiniteError: the maps have numbers that are not finite.
    """
    layout = job.plan.layout
    maps, counted = job.count(find_peaks)
    height, width = job.picture.shape[:2]
    size = (width, height)
    stride = job.plan.model.map_stride
    points = np.minimum(counted.points * np.float32(stride), np.array(size, np.float32))
    if layout is not NO_ZONES and (ignored := layout.ignored_corners(size)):
        kept, interval = leave_out(points, counted.interval, ignored, size)
        counted = replace(counted, points=counted.points[kept], scores=counted.scores[kept], interval=interval)
        points = points[kept]
        heatmap, spread = (blank(cells, ignored, stride) for cells in (maps.heatmap, maps.spread))
        maps = replace(maps, heatmap=heatmap, spread=spread)
    density = density_map(counted.points, *maps.heatmap.shape)
    job.clock.lap("peaks")
    warnings = job.warnings(counted.in_distribution)
    zones: dict[str, Any] = {}
    if layout is not NO_ZONES:
        zones["zones"] = count_zones(points, layout.zone_corners(size), size)
        zones["lines"] = count_sides(points, layout.line_ends(size))
        warnings += doubts(layout, size)
    return CountResult(
        count=len(points),
        points=points,
        scores=counted.scores,
        heatmap=maps.heatmap,
        density=density,
        uncertainty=maps.spread,
        interval=counted.interval,
        image_size=size,
        timings=job.clock.timings(),
        warnings=tuple(warnings),
        _layout=layout,
        _image=job.picture.pixels,
        **zones,
    )
