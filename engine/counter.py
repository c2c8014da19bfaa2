"""CrowdCounter: the whole flow, from a picture to its count."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from engine.backends.base import Backend, Work
from engine.backends.registry import create_backend
from engine.bundle.bundle import load_bundle
from engine.config import CounterConfig, check_choice, check_range
from engine.counting.heads import choose_rule
from engine.counting.stitching import CountJob, CountPlan
from engine.errors import CLOSED, ConfigError, EngineError
from engine.image.load import is_many_pictures, load_image
from engine.result import CountResult, make_result
from engine.stream.live import Patience
from engine.stream.opening import StreamOptions, open_source
from engine.stream.pipeline import CountStream, FrameReader, count_frames
from engine.stream.warm_start import plan_warm_start
from engine.system.forks import COUNTING, abandon_after_fork, never_free
from engine.system.ordered_map import attempt, ordered_map
from engine.system.stopwatch import Stopwatch
from engine.zones.inputs import Zones, as_layout
from engine.zones.layout import NO_ZONES, ZoneLayout


@dataclass(frozen=True)
class _Snapshot:
    """What a backend's ``snapshot`` gave, and what there was to say when the picture was read."""

    pixels: Any
    notes: tuple[str, ...]


class CrowdCounter:
    """Counts the people in pictures, says where each one is, and how sure it is.

    Args:
        model: "default" for the shipped model, or the path of a bundle.
        device: "auto" (the GPU where everything for backend "tensorrt" is there), "cpu", "cuda" or "cuda:N".
        backend: "auto", "openvino", "tensorrt" or "torch".
        compute_type: "default", "float32", "bfloat16", "float16" or "int8" (CPUs alone). The default is the fastest
            that the model has and the machine has instructions for; on a CPU int8 with VNNI, else bfloat16 with
            AVX512_BF16 or AMX, else float32.
        steps: denoising steps; None takes the model's own default.
        samples: noise samples that are averaged; how much they differ also widens the interval.
        seed: of the noise. Same seed, same picture: bit-identical result.
        cpu_threads: threads to compute with; 0 is all cores.
        cache_dir: folder for compiled models; None takes CROWD_CACHE_DIR of the environment, or the user's cache
            folder.
        performance: how backend "openvino" uses the cores. "balanced": all of them on one picture at a time.
            "latency": the same, with models compiled for each size of picture when it first comes (some tenths of a
            second), which then count it up to a quarter faster; the last four sizes are kept. "throughput": one core
            for each of many pictures, those of :meth:`count_batch` or of several threads. The result of one counter
            is the same in every thread; from one of these to another it may differ in the last digits.

    Raises:
        ConfigError: an argument is outside its range.
        BundleError: the model is missing or damaged.
        BackendError: the named backend or device is not there, or does not compute in ``compute_type`` with this model;
            or this process was forked from one that had a counter.

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
        performance: str = "balanced",
    ):
        config = CounterConfig(
            model, device, backend, compute_type, steps, samples, seed, cpu_threads, cache_dir, performance
        )
        self._config = config
        self._bundle = load_bundle(config.model)
        self._backend: Backend | None = create_backend(self._bundle, config)
        abandon_after_fork(self)

    def count(
        self,
        img: Any,
        *,
        color: str = "rgb",
        steps: int | None = None,
        samples: int | None = None,
        zones: Zones = None,
        stream: Any = None,
        maps: bool = True,
        page: int | None = None,
        exif_orientation: bool = True,
    ) -> CountResult:
        """Count the people in one picture.

        Args:
            img: path, bytes, binary file, PIL image, NumPy array (HxWx3, HxW or HxWx4) or torch tensor (HxWx3 or
                3xHxW), as :func:`engine.image.load.load_image` takes them. With backend "tensorrt" also an uint8 array
                on the same GPU (PyCUDA, CuPy, PyTorch), which is read where it is; the result then keeps no picture,
                so ``plot`` takes one.
            color: "rgb" or "bgr", the channel order of arrays.
            steps, samples: override the counter's own for this call.
            zones: polygons in pixels, by name; the path of a JSON file, which may also have fractions of the picture,
                and lines; or a :class:`engine.zones.layout.ZoneLayout`, such as
                ``ZoneLayout.from_polygons({...}, unit="fractions")``. ``result.zones`` and ``result.lines`` have the
                people in each.
            stream: that an array on the GPU is written in, if its library does not tell (PyCUDA does not): a handle,
                or a stream of PyCUDA, CuPy or PyTorch. It is waited for on the GPU.
            maps: keep the maps and the picture in the result; see :meth:`CountResult.without_maps`.
            page: of a TIFF file, or frame of an animation, from 0; None takes the first, with a warning if there are
                more.
            exif_orientation: turn the picture as its EXIF data say; False where a program has turned the pixels
                already and left the entry as it was.

        Raises:
            ImageError: the picture cannot be read or is outside the limits.
            ConfigError: ``color``, ``steps``, ``samples`` or ``zones`` is not valid, or there is a ``stream`` and no
                array on the GPU.
            BackendError: the backend failed; ``stream`` is no stream, or it or the array belongs to another device or
                CUDA context; or this process was forked from one that had a counter.
            NotFiniteError: the network gave numbers that are not finite (a BackendError).
            EngineError: the counter is closed.
        """
        plan = self._plan(steps, samples, page, exif_orientation)
        result = self._count_one(img, color, plan, _layout(zones), stream)
        return result if maps else result.without_maps()

    @overload
    def count_batch(
        self, images: Iterable[Any], *, on_error: Literal["raise"] = "raise", **options: Any
    ) -> list[CountResult]: ...
    @overload
    def count_batch(
        self, images: Iterable[Any], *, on_error: Literal["keep"], **options: Any
    ) -> list[CountResult | Exception]: ...
    # The overloads leave the other options to this signature.
    def count_batch(  # type: ignore[misc]
        self,
        images: Iterable[Any],
        *,
        color: str = "rgb",
        steps: int | None = None,
        samples: int | None = None,
        zones: Zones = None,
        stream: Any = None,
        maps: bool = True,
        on_error: str = "raise",
        page: int | None = None,
        exif_orientation: bool = True,
    ) -> Any:
        """Count several pictures, of any sizes; the same as :meth:`count` of each, in their order.

        On a GPU, each picture is read and uploaded while the one before is computed; with
        ``performance="throughput"``, as many are counted at once as there are cores.

        Args:
            images: anything that :meth:`count` takes, each.
            color, steps, samples, zones, stream, maps, page, exif_orientation: as of :meth:`count`. Without maps, a
                result of ten people holds about 1 KB, whatever the size of the picture.
            on_error: "raise" the error of the first picture that cannot be counted: there are no results then, not
                even of those before it. "keep" puts the error into the place of the result, and goes on.

        Raises ConfigError for what is no iterable of pictures and for another ``on_error``, and as :meth:`count` does.
        """
        if not is_many_pictures(images):
            raise ConfigError(
                f"images must be an iterable of pictures, got {type(images).__name__}; put a single picture into a list"
            )
        check_choice("on_error", on_error, ("raise", "keep"))
        plan, layout = self._plan(steps, samples, page, exif_orientation), _layout(zones)
        pictures: Iterable[tuple[Any, str]] = ((img, color) for img in images)
        if on_error == "raise":
            own = (self._snapshot(*x, plan) for x in pictures) if self.parallel > 1 else pictures
            results: Iterable[Any] = self._count_many(own, plan, layout, stream)
        else:
            count = attempt(lambda given: self._count_one(given[0], given[1], plan, layout, stream))
            if self.parallel > 1:
                taken = map(attempt(lambda given: self._snapshot(given[0], given[1], plan)), pictures)
                results = ordered_map(count, taken, self.parallel)
            else:
                results = map(count, pictures)
        return [x if maps or isinstance(x, Exception) else x.without_maps() for x in results]

    def stream(
        self,
        source: Any,
        *,
        fps: float | None = None,
        live: bool | None = None,
        warm_start: bool | None = None,
        color: str = "rgb",
        steps: int | None = None,
        samples: int | None = None,
        zones: Zones = None,
        timeout: float = Patience.timeout,
        give_up: float = Patience.give_up,
        every: float | None = None,
    ) -> CountStream:
        """Count the people in each frame of a video, folder or camera; frames are read while others are counted.

        Args:
            source: path of a video file or of a folder of pictures, address (http, https, rtsp, rtmp, udp, srt...),
                number of a camera, or iterable of anything that :meth:`count` takes (its memory may be reused once the
                next is asked for). Videos and cameras need PyAV. Of a folder, the pictures that lie in it, not those in
                folders below.
            fps: count so many frames a second; None counts all. Of folders and iterables, the rate of their pictures
                (1 a second for None), which gives the frames their times.
            live: take the newest frame, and drop and number those that came meanwhile. None: cameras and streams are
                live; files, also on servers, folders and iterables are not.
            warm_start: start the denoising from the heads of the frame before, in one step, and let the count follow
                smoothly, unless the scene has changed. None: see :data:`engine.stream.warm_start.WARM_START`.
            color, steps, samples, zones: as of :meth:`count`.
            timeout, give_up: seconds that connecting or a live frame may take, and for which a lost source is tried
                (``math.inf``: without end).
            every: seconds from one frame to the next, in place of ``fps``. An address of a single picture is asked for
                it so often; None: every second.

        Returns an iterator of :class:`engine.stream.frame.FrameResult`, and a context manager that closes it.

        Raises:
            SourceError: the source cannot be opened, or PyAV is missing.
            ConfigError: an argument is not valid.
            BackendError: the backend cannot start warm, or the process was forked.
            EngineError: the counter is closed.

        While iterating it raises what :meth:`count` does, and:
            SourceError: the source failed for good. A damaged picture of a folder is left out, with a warning on the
                next frame; where none follows, this error says so at the end.
            ImageError: a picture of an iterable cannot be read; that ends the stream. What an iterable itself raises
                comes through as it is.
        """
        plan, layout, backend = self._plan(steps, samples), _layout(zones), self._open_backend()
        warm = plan_warm_start(warm_start, plan, backend, partial(choose_rule, self._bundle.counting))
        options = StreamOptions(fps, live, color, Patience(timeout, give_up), every)
        reader = FrameReader(open_source(source, options, backend.snapshot))
        # Frames that are counted one by one leave nothing for a second thread.
        count = self._count_all if warm or reader.is_live else self._count_many
        return CountStream(reader, count_frames(reader, plan, warm, partial(count, layout=layout)))

    @property
    def name(self) -> str:
        """Name of the model, as its bundle has it."""
        return self._bundle.name

    @property
    def settings(self) -> dict[str, Any]:
        """What its counts depend on, as JSON has it; "model" is the hash of the bundle, and of every file in it."""
        backend, config = self._open_backend(), self._config
        names = {"model": self._bundle.digest, "backend": backend.name, "compute_type": backend.compute_type}
        plan = self._plan(None, None)
        return names | {
            "device": backend.device,
            "performance": config.performance,
            "steps": plan.steps,
            "samples": plan.samples,
            "seed": plan.seed,
        }

    @property
    def parallel(self) -> int:
        """Pictures that :meth:`count_batch` and :meth:`stream` count at once; more than 1 with "throughput" alone."""
        return self._open_backend().parallel

    def _plan(
        self, steps: int | None, samples: int | None, page: int | None = None, exif_orientation: bool = True
    ) -> CountPlan:
        check_range("steps", steps, 1, 1000, optional=True)
        check_range("samples", samples, 1, 1000, optional=True)
        check_range("page", page, 0, 2**31 - 1, optional=True)
        steps = steps or self._config.steps or self._bundle.default_steps
        samples = samples or self._config.samples
        rule = choose_rule(self._bundle.counting, steps)
        reading = {"page": page, "exif_orientation": exif_orientation}
        return CountPlan(self._bundle.model, rule, steps, samples, self._config.seed, reading=reading)

    def _snapshot(self, img: Any, color: str, plan: CountPlan) -> tuple[Any, str]:
        """A picture in memory of its own, or the file: the caller may overwrite or close what it gave."""
        if isinstance(img, str | bytes | os.PathLike):
            return img, color
        notes: list[str] = []
        pixels = self._open_backend().snapshot(img, color=color, **plan.reading, warn=notes.append)
        return _Snapshot(pixels, tuple(notes)), "rgb"

    def _load(self, img: Any, color: str, plan: CountPlan, cuda_stream: Any) -> CountJob:
        backend, clock = self._open_backend(), Stopwatch()
        notes: list[str] = []
        if isinstance(img, _Snapshot):
            picture, notes = backend.load(img.pixels, color, cuda_stream), [*img.notes]
        else:
            read = partial(load_image, **plan.reading, warn=notes.append)
            picture = backend.load(img, color, cuda_stream, read)
        clock.lap("load")
        return CountJob(picture, plan, clock, tuple(notes))

    def _count_one(self, img: Any, color: str, plan: CountPlan, layout: ZoneLayout, cuda_stream: Any) -> CountResult:
        backend = self._open_backend()
        with closing(self._load(img, color, plan, cuda_stream)) as job:
            # Each tile is prepared, encoded once and denoised in a few steps; see engine.diffusion.sampler.infer.
            for maps in backend.infer_all(job.work()):
                job.stitch(maps)
            # The peaks of the stitched maps are the heads; see engine.counting.heads.count_heads.
            return make_result(job, backend.find_peaks, layout)

    def _count_all(
        self, pictures: Iterable[tuple[Any, str]], plan: CountPlan, layout: ZoneLayout, cuda_stream: Any = None
    ) -> Iterator[CountResult]:
        """As :meth:`_count_one` of each; the backend may read the next picture before it gives the maps of this one."""
        backend = self._open_backend()
        jobs: deque[CountJob] = deque()

        def work() -> Iterator[Work]:
            for img, color in pictures:
                jobs.append(self._load(img, color, plan, cuda_stream))
                yield from jobs[-1].work()

        try:
            with closing(backend.infer_all(work())) as results:
                for maps in results:
                    if jobs[0].stitch(maps):
                        yield make_result(jobs[0], backend.find_peaks, layout)
                        jobs.popleft().close()
        finally:
            for job in jobs:
                job.close()

    def _count_many(
        self, pictures: Iterable[tuple[Any, str]], plan: CountPlan, layout: ZoneLayout, cuda_stream: Any = None
    ) -> Iterator[CountResult]:
        """As :meth:`_count_all`, of as many pictures at once as the backend computes."""
        if self.parallel == 1:
            return self._count_all(pictures, plan, layout, cuda_stream)
        count = partial(self._count_one, plan=plan, layout=layout, cuda_stream=cuda_stream)
        return ordered_map(lambda picture: count(*picture), pictures, self.parallel)

    def close(self) -> None:
        """Free the backend; the counter cannot count afterwards. Closing twice is harmless."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def abandon(self) -> None:
        """Called in a forked process: leave the backend as it is."""
        never_free(self._backend)
        self._backend = None

    def __enter__(self) -> CrowdCounter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self._backend.name} on {self._backend.device}" if self._backend else "closed"
        return f"<CrowdCounter {self.name}: {state}>"

    def _open_backend(self) -> Backend:
        if self._backend is None:
            # Or in another process, which was forked.
            COUNTING.check()
            raise EngineError(CLOSED)
        return self._backend


def _layout(zones: Zones) -> ZoneLayout:
    return NO_ZONES if zones is None else as_layout(zones)
