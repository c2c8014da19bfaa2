"""CrowdCounter: the whole flow, from a picture to its count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from engine.backends.base import Backend
from engine.backends.registry import create_backend
from engine.bundle.bundle import load_bundle
from engine.config import CounterConfig, check_choice, check_range
from engine.counting.heads import choose_rule
from engine.counting.stitching import CountJob, CountPlan, stitch_all, take_snapshot
from engine.errors import CLOSED, ConfigError, EngineError
from engine.image.load import is_many_pictures
from engine.result import CountResult, make_result
from engine.stream.live import Patience
from engine.stream.opening import StreamOptions, open_source
from engine.stream.pipeline import CountStream, FrameReader, count_frames
from engine.stream.warm_start import plan_warm_start
from engine.system.forks import COUNTING, abandon_after_fork, never_free
from engine.system.ongoing import Ongoing
from engine.system.ordered_map import attempt, ordered_map
from engine.zones.inputs import Zones, as_layout
from engine.zones.layout import NO_ZONES


class CrowdCounter:
    """Counts the people in pictures, says where each one is, and how sure it is.

    Args:
        model: "default" for the shipped model, or the folder of a bundle.
        device: "auto" (the GPU where everything for backend "tensorrt" is there), "cpu", "cuda" or "cuda:N".
        backend: "auto", "openvino", "tensorrt" or "torch".
        compute_type: "default" (the fastest that model and machine have), "float32", "bfloat16", "float16" or "int8".
        steps: denoising steps; None takes the model's own default.
        samples: noise samples that are averaged; how much they differ also widens the interval.
        seed: of the noise. Same seed, same picture: bit-identical result, in every thread.
        cpu_threads: threads to compute with; 0 is all cores.
        cache_dir: folder for compiled models; None and "" take CROWD_CACHE_DIR of the environment, or the user's own.
        performance: of backend "openvino". "balanced": all cores on one picture at a time. "latency": the same, with
            models compiled for each size of picture. "throughput": one core for each of many pictures.

    Raises:
        ConfigError: an argument is outside its range.
        BundleError: the model is missing or damaged.
        BackendError: the named backend or device is not there, or does not compute in ``compute_type``, or this process
            was forked from one that had a counter.

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
        self._config = CounterConfig(
            model, device, backend, compute_type, steps, samples, seed, cpu_threads, cache_dir, performance
        )
        self._bundle = load_bundle(self._config.model)
        self._backend: Backend | None = create_backend(self._bundle, self._config)
        self._work = Ongoing()
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
                3xHxW), as :func:`engine.image.load.load_image` takes them. With backend "tensorrt" also a uint8 array
                on the same GPU, which is read where it is; the result then keeps no picture.
            color: "rgb" or "bgr", the channel order of arrays.
            steps, samples: override the counter's own for this call.
            zones: polygons in pixels, by name; the path of a JSON file; or a :class:`engine.zones.layout.ZoneLayout`.
            stream: that a GPU array is written in, if its library (PyCUDA) does not tell: a handle, or an object of it.
            maps: keep the maps and the picture in the result; see :meth:`CountResult.without_maps`.
            page: of a TIFF file, or frame of an animation, from 0; None takes the first, and warns of others.
            exif_orientation: turn the picture as its EXIF data say.

        Raises:
            ImageError: the picture cannot be read or is outside the limits.
            ConfigError: an option is not valid, or there is a ``stream`` and no array on the GPU.
            BackendError: the backend failed; ``stream`` is no stream, or it or the array belongs to another device or
                CUDA context; or this process was forked from one that had a counter.
            NotFiniteError: the network gave numbers that are not finite (a BackendError).
            EngineError: the counter is closed.
        """
        plan = self._plan(steps, samples, zones, stream, page=page, exif_orientation=exif_orientation)
        work = self._work.one(self._open_backend)
        with work as backend, closing(CountJob.load(backend.load, img, color, plan)) as job:
            # Each tile is encoded once and denoised in a few steps; see engine.diffusion.sampler.infer.
            for tile_maps in backend.infer_all(job.work()):
                job.stitch(tile_maps)
            # The peaks of the stitched maps are the heads; see engine.counting.heads.count_heads.
            result = make_result(job, backend.find_peaks)
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

        Args:
            images: anything that :meth:`count` takes, each. GPUs read ahead; with "throughput", each core counts one.
            color, steps, samples, zones, stream, maps, page, exif_orientation: as of :meth:`count`.
            on_error: "raise" the error of the first picture that cannot be counted: there are no results then, not
                even of those before it. "keep" puts the error into the place of the result, and goes on.

        Raises ConfigError for what is no iterable of pictures and for another ``on_error``, and as :meth:`count` does.
        """
        if not is_many_pictures(images):
            given = type(images).__name__
            raise ConfigError(f"images must be an iterable of pictures, got {given}; put a single picture into a list")
        check_choice("on_error", on_error, ("raise", "keep"))
        plan = self._plan(steps, samples, zones, stream, page=page, exif_orientation=exif_orientation)
        pictures: Iterable[Any] = ((img, color) for img in images)
        with self._work.one(self._open_backend) as backend:
            if self.parallel > 1:
                take = partial(take_snapshot, backend.snapshot, plan)
                pictures = map(take if on_error == "raise" else attempt(take), pictures)
            keep = attempt(partial(self._count_one, plan=plan))
            results = self._count_many(pictures, plan) if on_error == "raise" else self._map(keep, pictures)
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
                number of a camera, or iterable of anything that :meth:`count` takes, which may be overwritten once the
                next is asked for. Videos and cameras need PyAV.
            fps: frames to count in a second; None counts all. Folders and iterables have so many (1 for None).
            live: take the newest frame, and drop and number those that came meanwhile; None: of cameras and streams.
            warm_start: start the denoising from the heads of the frame before, in one step, and let the count follow
                smoothly, unless the scene has changed. None: see :data:`engine.stream.warm_start.WARM_START`.
            color, steps, samples, zones: as of :meth:`count`.
            timeout, give_up: seconds that connecting or a live frame may take, and for which a lost source is tried
                (``math.inf``: without end).
            every: seconds from one frame to the next, in place of ``fps``, of an address of a picture too (1 for None).

        Returns an iterator of :class:`engine.stream.frame.FrameResult`, and a context manager that closes it. Iterating
        also raises what :meth:`count` does, and what an iterable itself raises.

        Raises:
            SourceError: the source cannot be opened, or PyAV is missing; while iterating, it failed for good, or the
                last picture of a folder is damaged (others are left out, with a warning on the next frame).
            ConfigError: an argument is not valid.
            BackendError: the backend cannot start warm, or the process was forked.
            EngineError: the counter is closed.
        """
        plan, backend = self._plan(steps, samples, zones), self._open_backend()
        warm = plan_warm_start(warm_start, plan, backend, partial(choose_rule, self._bundle.counting))
        options = StreamOptions(fps, live, color, Patience(timeout, give_up), every)
        reader = FrameReader(open_source(source, options, backend.snapshot))
        # Frames that are counted one by one leave nothing for a second thread.
        count = self._count_all if warm or reader.is_live else self._count_many
        return CountStream(reader, count_frames(reader, plan, warm, count))

    @property
    def name(self) -> str:
        """Name of the model, as its bundle has it."""
        return self._bundle.name

    @property
    def settings(self) -> dict[str, Any]:
        """What its counts depend on, as JSON has it; "model" is the hash of the bundle, and of every file in it."""
        backend, plan = self._open_backend(), self._plan(None, None)
        return {
            "model": self._bundle.digest, "backend": backend.name, "compute_type": backend.compute_type,
            "device": backend.device, "performance": self._config.performance,
            "steps": plan.steps, "samples": plan.samples, "seed": plan.seed,
        }  # fmt: skip

    @property
    def parallel(self) -> int:
        """Pictures that :meth:`count_batch` and :meth:`stream` count at once; more than 1 with "throughput" alone."""
        return self._open_backend().parallel

    def _plan(
        self, steps: int | None, samples: int | None, zones: Zones = None, cuda_stream: Any = None, **reading: Any
    ) -> CountPlan:
        steps = check_range("steps", steps, 1, 1000, optional=True) or self._config.steps or self._bundle.default_steps
        samples = check_range("samples", samples, 1, 1000, optional=True) or self._config.samples
        check_range("page", reading.get("page"), 0, 2**31 - 1, optional=True)
        layout = NO_ZONES if zones is None else as_layout(zones)
        model, rule, seed = self._bundle.model, choose_rule(self._bundle.counting, steps), self._config.seed
        return CountPlan(model, rule, steps, samples, seed, reading=reading, cuda_stream=cuda_stream, layout=layout)

    def _count_one(self, picture: tuple[Any, str], plan: CountPlan) -> CountResult:
        (result,) = self._count_all([picture], plan)
        return result

    def _count_all(self, pictures: Iterable[tuple[Any, str]], plan: CountPlan) -> Iterator[CountResult]:
        """As :meth:`count` of each; the backend may read the next picture before it gives the maps of this one."""
        backend = self._open_backend()
        jobs = (CountJob.load(self._open_backend().load, *picture, plan) for picture in pictures)
        with closing(stitch_all(backend.infer_all, jobs)) as stitched:
            for job in stitched:
                yield make_result(job, backend.find_peaks)

    def _count_many(self, pictures: Iterable[tuple[Any, str]], plan: CountPlan) -> Iterator[CountResult]:
        """As :meth:`_count_all`, of as many pictures at once as the backend computes."""
        if self.parallel == 1:
            return self._count_all(pictures, plan)
        return self._map(partial(self._count_one, plan=plan), pictures)

    def _map(self, function: Callable[[Any], Any], pictures: Iterable[Any]) -> Iterator[Any]:
        return ordered_map(function, pictures, self.parallel) if self.parallel > 1 else map(function, pictures)

    def close(self) -> None:
        """Free the backend, once the counts of other threads have ended or 10 seconds have passed; harmless twice."""
        self._work.end()
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def abandon(self) -> None:
        """Called in a forked process: leave the backend as it is."""
        never_free(self._backend)
        self._backend, self._work = None, Ongoing()  # Another thread may have had its lock.

    def __enter__(self) -> CrowdCounter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = f"{self._backend.name} on {self._backend.device}" if self._backend else "closed"
        return f"<CrowdCounter {self.name}: {state}>"

    def _open_backend(self) -> Backend:
        if self._backend is None:
            COUNTING.check()  # The backend may be in another process, which this one was forked from.
            raise EngineError(CLOSED)
        return self._backend
