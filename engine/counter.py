"""CrowdCounter: the whole flow, from a picture to its count."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, overload

from engine.backends.base import Backend, Work, create_backend
from engine.bundle.bundle import load_bundle
from engine.config import CounterConfig, check_choice, check_range
from engine.count_job import CountJob, CountPlan, Taken, attempt
from engine.errors import CLOSED, ConfigError, EngineError
from engine.image.load import is_many_pictures
from engine.result import CountResult
from engine.stream.live import Patience
from engine.stream.opening import StreamOptions, open_source
from engine.stream.pipeline import CountStream, FrameReader, count_frames
from engine.stream.warm_start import plan_warm_start
from engine.system.ordered_map import ordered_map
from engine.system.processes import COUNTING
from engine.system.stopwatch import Stopwatch
from engine.zones.inputs import Zones, as_layout


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
            is the same whoever asks; from one of these to another it may differ in the last digits.

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
        plan = self._plan(steps, samples, zones, page, exif_orientation)
        (result,) = self._count_all([(img, color)], plan, stream)
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
        plan = self._plan(steps, samples, zones, page, exif_orientation)
        pictures: Iterable[Any] = ((img, color) for img in images)
        if on_error == "raise":
            results: Iterable[Any] = self._count_many(
                self._taken(pictures, plan) if self.parallel > 1 else pictures, plan, stream
            )
        else:
            count = attempt(lambda picture: next(self._count_all([picture], plan, stream)))
            if self.parallel > 1:
                taken = map(attempt(lambda picture: next(self._taken([picture], plan))), pictures)
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
                (``math.inf``: for ever).
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
        plan, backend = self._plan(steps, samples, zones), self._open_backend()
        warm = plan_warm_start(warm_start, plan, backend)
        options = StreamOptions(fps, live, color, Patience(timeout, give_up), every)
        reader = FrameReader(open_source(source, options, backend.take))
        # Frames that are counted one by one keep nobody else busy.
        count = self._count_all if warm or reader.is_live else self._count_many
        return CountStream(reader, count_frames(reader, plan, warm, count))

    @property
    def settings(self) -> dict[str, Any]:
        """What its counts depend on, as JSON has it; "model" is the hash of the bundle, and of every file in it."""
        backend, config = self._open_backend(), self._config
        names = {"model": self._bundle.digest, "backend": backend.name, "compute_type": backend.compute_type}
        plan = self._plan(None, None, None)
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
        self,
        steps: int | None,
        samples: int | None,
        zones: Zones,
        page: int | None = None,
        exif_orientation: bool = True,
    ) -> CountPlan:
        check_range("steps", steps, 1, 1000, optional=True)
        check_range("samples", samples, 1, 1000, optional=True)
        check_range("page", page, 0, 2**31 - 1, optional=True)
        steps = steps or self._config.steps or self._bundle.default_steps
        samples = samples or self._config.samples
        reading = {"page": page, "exif_orientation": exif_orientation}
        return CountPlan(self._bundle, steps, samples, self._config.seed, as_layout(zones), reading=reading)

    def _taken(self, images: Iterable[tuple[Any, str]], plan: CountPlan) -> Iterator[tuple[Any, str]]:
        """Pictures of their own, but for files: whoever makes them may reuse their memory, or close them."""
        for img, color in images:
            if isinstance(img, str | bytes | os.PathLike):
                yield img, color
            else:
                notes: list[str] = []
                image = self._open_backend().take(img, color=color, **plan.reading, warn=notes.append)
                yield Taken(image, tuple(notes)), "rgb"

    def _count_many(
        self, images: Iterable[tuple[Any, str]], plan: CountPlan, stream: Any = None
    ) -> Iterator[CountResult]:
        if self.parallel == 1:
            return self._count_all(images, plan, stream)
        return ordered_map(lambda picture: next(self._count_all([picture], plan, stream)), images, self.parallel)

    def _count_all(
        self, images: Iterable[tuple[Any, str]], plan: CountPlan, stream: Any = None
    ) -> Iterator[CountResult]:
        backend = self._open_backend()
        jobs: deque[CountJob] = deque()

        def work() -> Iterator[Work]:
            for img, color in images:
                # A stream may outlive its counter.
                self._open_backend()
                clock = Stopwatch()
                taken = Taken.load(backend, img, color, stream, plan)
                job = CountJob(taken.image, plan, clock, taken.notes)
                jobs.append(job)
                clock.lap("load")
                yield from job.work()

        try:
            # The backend may take the next picture before it gives the maps of this one.
            with closing(backend.infer_all(work())) as results:
                for maps in results:
                    if jobs[0].paste(maps):
                        yield jobs[0].finish(backend)
                        jobs.popleft().close()
        finally:
            for job in jobs:
                job.close()

    def close(self) -> None:
        """Free the backend; the counter cannot count afterwards. Closing twice is harmless."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> CrowdCounter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self._backend.name} on {self._backend.device}" if self._backend else "closed"
        return f"<CrowdCounter {self._bundle.name}: {state}>"

    def _open_backend(self) -> Backend:
        if self._backend is None:
            raise EngineError(CLOSED)
        COUNTING.check()
        return self._backend
