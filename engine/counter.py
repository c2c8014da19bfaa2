"""CrowdCounter: the whole flow, from a picture to its count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.backends.base import Backend, create_backend
from engine.bundle import load_bundle
from engine.canvas import Canvas
from engine.config import CounterConfig, check_range
from engine.counting import Polygon, count_heads, count_zones, density_map
from engine.errors import EngineError
from engine.images import load_image
from engine.preprocess import plan_tiles
from engine.result import CountResult
from engine.stopwatch import Stopwatch

# Pictures with a side below this many pixels are counted with a warning.
_SMALL_SIDE = 64


class CrowdCounter:
    """Counts the people in pictures, says where each one is, and how sure it is.

    Args:
        model: "default" for the shipped model, or the path of a bundle.
        device: "auto", "cpu", "cuda" or "cuda:N".
        backend: "auto", "openvino", "tensorrt" or "torch".
        compute_type: "default" (the fastest that keeps the accuracy on this machine), "float32",
            "bfloat16", "float16" or "int8".
        steps: denoising steps; None takes the model's own default.
        samples: noise samples that are averaged; more than one also gives the interval.
        seed: of the noise. Same seed, same picture: bit-identical result.
        cpu_threads: threads to compute with; 0 is all cores.
        cache_dir: folder for compiled models; None compiles anew in each process.

    Raises:
        ConfigError: an argument is outside its range.
        BundleError: the model is missing or damaged.
        BackendError: the named backend or device is not there.

    One counter may be used from several threads. It is a context manager; leaving it closes it.

    >>> import engine, numpy
    >>> with engine.CrowdCounter() as counter:
    ...     result = counter.count(numpy.zeros((64, 64, 3), numpy.uint8))
    >>> result.count
    0
    """

    def __init__(
        self,
        model: str | Path = "default",
        device: str = "auto",
        backend: str = "auto",
        compute_type: str = "default",
        steps: int | None = None,
        samples: int = 1,
        seed: int = 0,
        cpu_threads: int = 0,
        cache_dir: str | Path | None = None,
    ):
        config = CounterConfig(model, device, backend, compute_type, steps, samples, seed, cpu_threads, cache_dir)
        self._config = config
        self._bundle = load_bundle(config.model)
        self._backend: Backend | None = create_backend(self._bundle, config)

    def count(
        self,
        img: Any,
        *,
        color: str = "rgb",
        steps: int | None = None,
        samples: int | None = None,
        zones: Mapping[str, Polygon] | None = None,
    ) -> CountResult:
        """Count the people in one picture.

        Args:
            img: path, bytes, binary file, PIL image, NumPy array (uint8 HxWx3, HxW or HxWx4) or torch
                tensor (HxWx3 or 3xHxW, uint8 or float in [0, 1]). EXIF orientation is applied.
            color: "rgb" or "bgr", the channel order of arrays.
            steps, samples: override the counter's own for this call.
            zones: polygons in pixels, by name; ``result.zones`` has the people in each.

        Raises:
            ImageError: the picture cannot be read or is outside the limits.
            ConfigError: ``color``, ``steps``, ``samples`` or ``zones`` are not valid.
        """
        backend, model = self._open_backend(), self._bundle.model
        check_range("steps", steps, 1, 1000, optional=True)
        check_range("samples", samples, 1, 1000, optional=True)
        steps = steps or self._config.steps or self._bundle.default_steps
        samples = samples or self._config.samples

        clock = Stopwatch()
        image = load_image(img, color=color)
        clock.lap("load")
        height, width = image.shape[:2]
        tiles = plan_tiles(height, width)
        canvas = Canvas(height, width, model)
        for tile in tiles:
            pixels = image[tile.top : tile.bottom, tile.left : tile.right]
            canvas.paste(tile, backend.infer(pixels, steps, samples, self._config.seed, clock))
        maps = canvas.maps(has_spread=steps > 1 or samples > 1)
        counted = count_heads(maps, self._bundle.rule(steps), backend.find_peaks)
        points = np.minimum(counted.points * np.float32(model.map_stride), np.array([width, height], np.float32))
        density_of_heads = density_map(counted.points, *canvas.shape)
        clock.lap("peaks")
        return CountResult(
            count=len(points),
            points=points,
            scores=counted.scores,
            heatmap=maps.heatmap,
            density=density_of_heads,
            uncertainty=maps.spread,
            interval=counted.interval,
            zones=count_zones(points, zones),
            image_size=(width, height),
            timings=clock.timings(),
            warnings=_warnings(height, width, len(tiles)),
            _image=image,
        )

    def count_batch(self, images: Iterable[Any], **options: Any) -> list[CountResult]:
        """Count several pictures, of any sizes; the same as :meth:`count` of each, in their order.

        Args:
            images: anything that :meth:`count` takes, each.
            options: as of :meth:`count`.
        """
        return [self.count(image, **options) for image in images]

    def close(self) -> None:
        """Free the backend; the counter cannot count afterwards. Closing twice is harmless."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def __enter__(self) -> CrowdCounter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self._backend.name} on {self._backend.device}" if self._backend else "closed"
        return f"<CrowdCounter {self._bundle.name}: {state}>"

    def _open_backend(self) -> Backend:
        if self._backend is None:
            raise EngineError("this CrowdCounter is closed; make a new one")
        return self._backend


def _warnings(height: int, width: int, tiles: int) -> tuple[str, ...]:
    warnings = []
    if min(height, width) < _SMALL_SIDE:
        warnings.append(f"the picture is only {width} x {height} pixels; heads of under 4 pixels are missed")
    if tiles > 1:
        warnings.append(f"the picture was counted in {tiles} overlapping tiles, as it has {width * height} pixels")
    return tuple(warnings)
