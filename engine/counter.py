"""CrowdCounter: the whole flow, from a picture to its count."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.backends.base import Backend, Work, create_backend
from engine.bundle import load_bundle
from engine.config import CounterConfig, check_range
from engine.count_job import CountJob, CountPlan
from engine.counting import Polygon
from engine.errors import EngineError
from engine.result import CountResult
from engine.stopwatch import Stopwatch


class CrowdCounter:
    """Counts the people in pictures, says where each one is, and how sure it is.

    Args:
        model: "default" for the shipped model, or the path of a bundle.
        device: "auto" (the GPU where everything for backend "tensorrt" is there), "cpu", "cuda" or "cuda:N".
        backend: "auto", "openvino", "tensorrt" or "torch".
        compute_type: "default" (the fastest that keeps the accuracy on this machine), "float32",
            "bfloat16", "float16" or "int8".
        steps: denoising steps; None takes the model's own default.
        samples: noise samples that are averaged; more than one also gives the interval.
        seed: of the noise. Same seed, same picture: bit-identical result.
        cpu_threads: threads to compute with; 0 is all cores.
        cache_dir: folder for compiled models. None: OpenVINO compiles anew in each process, and TensorRT's engines
            are kept in CROWD_CACHE_DIR of the environment, or in the user's cache folder.

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
        stream: Any = None,
    ) -> CountResult:
        """Count the people in one picture.

        Args:
            img: path, bytes, binary file, PIL image, NumPy array (uint8 HxWx3, HxW or HxWx4) or torch
                tensor (HxWx3 or 3xHxW, uint8 or float in [0, 1]). EXIF orientation is applied. With backend "tensorrt"
                also an uint8 array on the same GPU (PyCUDA, CuPy, PyTorch), which is read where it is; the result then
                keeps no picture, so ``plot`` takes one.
            color: "rgb" or "bgr", the channel order of arrays.
            steps, samples: override the counter's own for this call.
            zones: polygons in pixels, by name; ``result.zones`` has the people in each.
            stream: that an array on the GPU is written in, if its library does not tell (PyCUDA does not): a handle,
                or a stream of PyCUDA, CuPy or PyTorch. It is waited for on the GPU.

        Raises:
            ImageError: the picture cannot be read or is outside the limits.
            ConfigError: ``color``, ``steps``, ``samples``, ``zones`` or ``stream`` are not valid.
        """
        options = {"color": color, "steps": steps, "samples": samples, "zones": zones, "stream": stream}
        (result,) = self._count_all([img], **options)
        return result

    def count_batch(self, images: Iterable[Any], **options: Any) -> list[CountResult]:
        """Count several pictures, of any sizes; the same as :meth:`count` of each, in their order.

        On a GPU, each picture is read and uploaded while the one before is computed.

        Args:
            images: anything that :meth:`count` takes, each.
            options: as of :meth:`count`.
        """
        return list(self._count_all(images, **options))

    def _count_all(
        self,
        images: Iterable[Any],
        color: str = "rgb",
        steps: int | None = None,
        samples: int | None = None,
        zones: Mapping[str, Polygon] | None = None,
        stream: Any = None,
    ) -> Iterator[CountResult]:
        backend = self._open_backend()
        check_range("steps", steps, 1, 1000, optional=True)
        check_range("samples", samples, 1, 1000, optional=True)
        steps = steps or self._config.steps or self._bundle.default_steps
        samples = samples or self._config.samples
        plan = CountPlan(self._bundle, steps, samples, self._config.seed, zones)
        jobs: deque[CountJob] = deque()

        def work() -> Iterator[Work]:
            for img in images:
                clock = Stopwatch()
                job = CountJob(backend.load(img, color, stream), plan, clock)
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
            raise EngineError("this CrowdCounter is closed; make a new one")
        return self._backend
