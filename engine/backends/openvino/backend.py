"""The backend: what the bundle holds, run by OpenVINO and our C++ kernels, on as many threads as were asked for."""

from __future__ import annotations

import os
import platform
import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
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
from engine.backends.base import Backend, Request
from engine.backends.compiled_cache import CompiledCache
from engine.backends.openvino.models import Precision, SegmentModels
from engine.backends.openvino.network import Network, to_float32
from engine.bundle.bundle import Bundle
from engine.bundle.stages import SegmentStage
from engine.config import CounterConfig, compiled_folder
from engine.diffusion.latent import TileMaps
from engine.errors import CLOSED, BackendError, EngineError
from engine.image.tiles import input_table, padded_shape
from engine.system.processes import keep_for_ever
from engine.system.stopwatch import Stopwatch

_PRECISIONS = ("float32", "bfloat16", "int8")
_X86 = ("x86_64", "amd64")
# Larger pictures take the model for all sizes: a request made for one size holds some 250 bytes a pixel.
_MOST_SIZED_PIXELS = 1 << 22
# The kernels take no more.
_MOST_THREADS = 1024
# Seconds that closing waits for each picture that other threads are counting.
_FAREWELL = 10.0


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
        self._sized = config.performance == "latency"
        self._bundle = bundle
        # What is not quantised runs in bfloat16 where the CPU has it.
        reduced = native if self.compute_type == "int8" else self.compute_type == "bfloat16"
        precision = Precision(ov.Type.bf16 if reduced else ov.Type.f32, "int8" if self.compute_type == "int8" else "")
        cache = CompiledCache(compiled_folder(config.cache_dir))
        self._models: SegmentModels | None = SegmentModels(core, bundle, precision, self._threads, cache)
        self._table = input_table(bundle.model)
        # Networks that no thread is using; only so many may be in use at once.
        self._lanes: queue.LifoQueue[_Lane | None] = queue.LifoQueue()
        for _ in range(self.parallel):
            self._lanes.put(None)
        self._local = threading.local()
        self._is_closed = False
        self._failure = ""
        _LIVE.add(self)
        # Compiled, or read from the disk, before the first picture.
        if not self._sized:
            self._lanes.get()
            self._lanes.put(self._new_lane())

    def upload(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, np.float32, order="C")

    def download(self, array: np.ndarray) -> np.ndarray:
        return to_float32(array)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return self._lane().prepare(image, self._table)

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._lane().network(image.shape[2] * image.shape[3]).encode(image)

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        return self._lane().network(64 * x_t.shape[2] * x_t.shape[3]).decode(features, x_t, t)

    def ddim_update(
        self,
        x_t: np.ndarray,
        x_0: np.ndarray,
        estimate: np.ndarray,
        change: np.ndarray,
        coefficients: tuple[float, ...],
    ) -> None:
        _core.ddim_update(x_t, x_0, estimate, change, coefficients, self._threads)

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return _core.find_peaks(heatmap, threshold, self._threads)

    def infer(self, image: Any, request: Request, clock: Stopwatch) -> TileMaps:
        with self._borrowed_lane() as lane:
            # Of several tiles there is one of a size, or few: no model of their own for those.
            lane.whole = request.threshold is not None
            try:
                maps = super().infer(image, request, clock)
            except EngineError:
                # No model for this size could be compiled: what ran until then ran well, and other sizes may do.
                raise
            except (RuntimeError, MemoryError) as error:
                # The message is in the last line; above it are places in OpenVINO's sources.
                self._failure = (str(error).strip().splitlines() or ["no memory"])[-1]
                raise BackendError(self._failed()) from error
            if self._failure:
                raise BackendError(self._failed())
            # The next one to borrow the lane writes over its memory.
            return replace(maps, density=maps.density.copy())

    def close(self) -> None:
        if self._is_closed:
            return
        # What other threads are counting is counted to its end; a lane that an interrupt lost is not waited for.
        with suppress(queue.Empty):
            for _ in range(self.parallel):
                self._lanes.get(timeout=_FAREWELL)
        self._is_closed = True
        # Whoever waits for a lane finds that out.
        self._lanes.put(None)
        self._models = None

    def abandon(self) -> None:
        """Leave everything as it is, for ever: the threads that would free it are not in this process."""
        self._is_closed = True
        keep_for_ever(self._models, self._lanes, self._local)

    def _lane(self) -> _Lane:
        """This thread's; outside of :meth:`infer` it keeps one of its own."""
        lane: _Lane | None = getattr(self._local, "lane", None)
        if lane is None:
            lane = self._local.lane = self._new_lane()
        return lane

    @contextmanager
    def _borrowed_lane(self) -> Iterator[_Lane]:
        lane = self._lanes.get()
        if self._is_closed:
            self._lanes.put(None)
            raise EngineError(CLOSED)
        if self._failure:
            self._lanes.put(lane)
            raise BackendError(self._failed())
        kept = getattr(self._local, "lane", None)
        try:
            lane = lane or self._new_lane()
            self._local.lane = lane
            yield lane
        finally:
            self._local.lane = kept
            self._lanes.put(lane)

    def _new_lane(self) -> _Lane:
        models = self._models
        if models is None:
            raise EngineError(CLOSED)
        return _Lane(models, self._bundle, self._threads, self._sized)

    def _failed(self) -> str:
        # OpenVINO does not clear up: after a lack of memory it was seen to give the maps of other pictures.
        return f"the network failed ({self._failure}), and may compute wrongly from now on; make a new CrowdCounter"


_LIVE: weakref.WeakSet[OpenVINOBackend] = weakref.WeakSet()


def _abandon_all() -> None:
    for backend in list(_LIVE):
        backend.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)


class _Lane:
    """What one thread at a time works with.

    Attributes:
        whole: whether it works on a whole picture, not on one of several tiles.
    """

    def __init__(self, models: SegmentModels, bundle: Bundle, threads: int, sized: bool):
        self._arguments = models, bundle.programs, threads
        self._threads = threads
        self._may_size, self.whole = sized, True
        self._networks: dict[bool, Network] = {}
        self._input = np.empty((0, 0, 0, 0), np.float32)
        if not sized:
            self.network(0)

    def network(self, pixels: int) -> Network:
        """The network for a tile of so many pixels."""
        sized = self._may_size and self.whole and pixels <= _MOST_SIZED_PIXELS
        if sized not in self._networks:
            self._networks[sized] = Network(*self._arguments, sized)
        return self._networks[sized]

    def prepare(self, image: np.ndarray, table: np.ndarray) -> np.ndarray:
        """The network's input, [1, 3, H', W'], in memory that the next one overwrites."""
        shape = padded_shape(*image.shape[:2])
        if self._input.shape != shape:
            self._input = np.empty(shape, np.float32)
        _core.preprocess(image, table, self._input, threads=self._threads)
        return self._input


def count_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _resolve_type(bundle: Bundle, compute_type: str, native_bfloat16: bool) -> str:
    stages = (stage for program in bundle.programs.values() for stage in program.stages)
    without_int8 = [x.graph for x in stages if isinstance(x, SegmentStage) and "int8" not in x.typed]
    if compute_type == "default":
        if _core.has_int8_dot() and not without_int8:
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
    if compute_type == "int8" and not _core.has_int8_dot() and platform.machine().lower() in _X86:
        raise BackendError(
            "this CPU has no int8 dot products (VNNI), and without them OpenVINO's int8 convolutions overflow, so that "
            "counts are wrong; use compute_type='float32' or 'default'"
        )
    return compute_type
