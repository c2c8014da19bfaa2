"""The backend: what the bundle holds, run by OpenVINO and our C++ kernels, on as many threads as were asked for."""

from __future__ import annotations

import math
import os
import platform
import queue
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from engine.system.telemetry import no_telemetry

try:
    with no_telemetry():
        import openvino as ov
except ImportError as error:
    from engine.errors import BackendError

    raise BackendError("backend 'openvino' needs the package openvino: pip install openvino") from error

from engine import _core
from engine.backends.base import Backend, Work
from engine.backends.compiled_cache import CompiledCache, compiled_folder
from engine.backends.openvino.models import Precision, SegmentModels
from engine.backends.openvino.worker import Worker
from engine.bundle.bundle import Bundle
from engine.bundle.int8_weights import fits_16_bits
from engine.bundle.stages import SegmentStage
from engine.config import CounterConfig
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Request, infer
from engine.errors import CLOSED, BackendError, EngineError
from engine.image.load import load_host_picture, load_image
from engine.image.tiles import HostPicture, padded_shape
from engine.system.forks import abandon_after_fork, never_free
from engine.system.stopwatch import Stopwatch

_PRECISIONS = ("float32", "bfloat16", "int8")
_X86 = ("x86_64", "amd64")
# Larger pictures take the model for all sizes: a request made for one size holds some 250 bytes a pixel.
_MOST_STATIC_PIXELS = 1 << 22
# The kernels take no more.
_MOST_THREADS = 1024
# Seconds that closing waits for each tile that other threads are counting.
_CLOSE_TIMEOUT = 10.0


class OpenVINOBackend(Backend):
    """Runs on the CPU.

    ``performance`` of the configuration says how it uses the cores:

    - "balanced": all of them on one tile at a time, with models for all sizes;
    - "latency": the same with models for each size of picture, compiled when one first comes;
    - "throughput": each on a tile of its own, with models for all sizes.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, bundle: Bundle, config: CounterConfig):
        self.model = bundle.model
        core = ov.Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.compute_type = _resolve_type(bundle, config.compute_type, native)
        cores = config.cpu_threads or min(count_cores(), _MOST_THREADS)
        self.parallel = cores if config.performance == "throughput" else 1
        self._threads = cores // self.parallel
        self._static_shapes = config.performance == "latency"
        self._bundle = bundle
        # What is not quantised runs in bfloat16 where the CPU has it.
        reduced = native if self.compute_type == "int8" else self.compute_type == "bfloat16"
        precision = Precision(ov.Type.bf16 if reduced else ov.Type.f32, "int8" if self.compute_type == "int8" else "")
        cache = CompiledCache(compiled_folder(config.cache_dir))
        self._models: SegmentModels | None = SegmentModels(core, bundle, precision, self._threads, cache)
        # Workers that no thread is using, by whether they have static shapes; so many threads may use some at once.
        self._idle: queue.LifoQueue[dict[bool, Worker]] = queue.LifoQueue()
        for _ in range(self.parallel):
            self._idle.put({})
        self._is_closed = False
        self._failure = ""
        abandon_after_fork(self)
        # Compiled, or read from the disk, before the first picture.
        if not self._static_shapes:
            with self._lease(static_shape=False):
                pass

    def load(self, img: Any, color: str, cuda_stream: Any, read: Callable[..., np.ndarray] = load_image) -> HostPicture:
        return load_host_picture(img, color, cuda_stream, f"{self.device} with backend {self.name!r}", read)

    def snapshot(self, img: Any, *, color: str, **options: Any) -> np.ndarray:
        return self.load(img, color, None, partial(load_image, **options)).pixels

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return _core.find_peaks(heatmap, threshold, self._threads)

    def infer(self, tile: np.ndarray, request: Request, clock: Stopwatch) -> TileMaps:
        # The tiles of a large picture differ in size, so none of them gets a model of its own.
        is_whole = request.threshold is not None
        pixels = math.prod(padded_shape(*tile.shape[:2])[2:])
        with self._lease(self._static_shapes and is_whole and pixels <= _MOST_STATIC_PIXELS) as worker:
            try:
                maps = infer(worker, tile, request, clock)
            except EngineError:
                # No model for this size could be compiled: what ran until then ran well, and other sizes may do.
                raise
            except (RuntimeError, MemoryError) as error:
                # The message is in the last line; above it are places in OpenVINO's sources.
                self._failure = (str(error).strip().splitlines() or ["no memory"])[-1]
                raise BackendError(self._failed()) from error
            if self._failure:
                raise BackendError(self._failed())
            # The next one to lease the worker writes over its memory.
            return replace(maps, rate=maps.rate.copy(), signature=maps.signature.copy())

    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        return (self.infer(*one) for one in work)

    def network(self) -> AbstractContextManager[Worker]:
        return self._lease(static_shape=self._static_shapes)

    def close(self) -> None:
        if self._is_closed:
            return
        # The tile that another thread is counting is counted to its end (the counter waits for whole counts); workers
        # that an interrupt lost are not waited for.
        with suppress(queue.Empty):
            for _ in range(self.parallel):
                self._idle.get(timeout=_CLOSE_TIMEOUT)
        self._is_closed = True
        # A thread that waits for a worker finds that out.
        self._idle.put({})
        self._models = None

    def abandon(self) -> None:
        """Leave everything as it is: the threads that would free it are not in this process."""
        self._is_closed = True
        never_free(self._models, self._idle)

    @contextmanager
    def _lease(self, static_shape: bool) -> Iterator[Worker]:
        """A worker for this thread alone; it waits until one is idle.

        Raises:
            EngineError: the backend is closed.
            BackendError: OpenVINO has failed before.
        """
        workers = self._idle.get()
        try:
            models = self._models
            if self._is_closed or models is None:
                raise EngineError(CLOSED)
            if self._failure:
                raise BackendError(self._failed())
            if static_shape not in workers:
                workers[static_shape] = Worker(models, self._bundle, self._threads, static_shape)
            yield workers[static_shape]
        finally:
            self._idle.put(workers)

    def _failed(self) -> str:
        # OpenVINO does not clear up: after a lack of memory it was seen to give the maps of other pictures.
        return f"the network failed ({self._failure}), and may compute wrongly from now on; make a new CrowdCounter"


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _resolve_type(bundle: Bundle, compute_type: str, native_bfloat16: bool) -> str:
    stages = (stage for program in bundle.programs.values() for stage in program.stages)
    without_int8 = [x.graph for x in stages if isinstance(x, SegmentStage) and "int8" not in x.typed]
    if compute_type == "default":
        if not without_int8 and _has_sound_int8(bundle):
            return "int8"
        return "bfloat16" if native_bfloat16 else "float32"
    if compute_type not in _PRECISIONS:
        raise BackendError(f"backend 'openvino' computes in {', '.join(_PRECISIONS)}, got {compute_type!r}")
    if compute_type == "bfloat16" and not native_bfloat16:
        raise BackendError("this CPU has no bfloat16 instructions; use compute_type='float32' or 'default'")
    if compute_type == "int8" and without_int8:
        raise BackendError(
            f"{bundle.path} has no int8 variant of {', '.join(without_int8)}; use compute_type='default', or put one "
            "in: crowd export quantize"
        )
    if compute_type == "int8" and _is_x86() and not _has_sound_int8(bundle):
        raise BackendError(
            f"this CPU has no int8 dot products (VNNI), and without them int8 convolutions of {bundle.path} overflow, "
            "so that counts are wrong; use compute_type='float32' or 'default', or give the bundle weights that suit "
            "this CPU: crowd export quantize"
        )
    return compute_type


def _is_x86() -> bool:
    return platform.machine().lower() in _X86


def _has_sound_int8(bundle: Bundle) -> bool:
    """Whether int8 convolutions are known to compute here what they should, and faster than those of other types."""
    return _core.has_int8_dot() or (_is_x86() and fits_16_bits(bundle))
