"""TensorRT on a GPU: each count is one CUDA graph, and pictures are uploaded while the one before is computed."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import _core
from engine.backends.base import Backend, Request, Work
from engine.backends.compiled_cache import CompiledCache
from engine.backends.cuda.context import Context, close_all
from engine.backends.cuda.device_arrays import DeviceImage, device_image, is_device_array
from engine.backends.cuda.double_buffer import DoubleBuffer, Slot
from engine.backends.cuda.graphs import GraphCache
from engine.backends.cuda.image_copies import ImageCopies
from engine.backends.cuda.kernels import Kernels
from engine.backends.cuda.launcher import Launcher
from engine.backends.cuda.streams import Event, Stream
from engine.backends.tensorrt.engines import EngineStore
from engine.backends.tensorrt.inference import Inference, InferenceKey, Run
from engine.backends.tensorrt.library import ShapeRange
from engine.backends.tensorrt.network import Runtime
from engine.backends.tensorrt.plain import PlainArray, PlainNetwork
from engine.backends.tensorrt.requirements import check_requirements
from engine.bundle import Bundle, SegmentStage
from engine.config import CounterConfig, compiled_folder
from engine.errors import BackendError, ConfigError
from engine.images import load_image
from engine.maps import TileMaps
from engine.ordered_map import UntilError
from engine.stopwatch import Stopwatch

_TYPES = ("float16", "bfloat16")
# Recorded inferences that are kept, each with its activations: about 100 MB for a 1024 x 768 picture.
_INFERENCES = 8


@dataclass(frozen=True)
class _Launched:
    """A run that was queued for a picture."""

    inference: Inference
    run: Run
    clock: Stopwatch
    lock: AbstractContextManager[Any]

    def collect(self) -> TileMaps:
        """Wait for its result."""
        with self.lock:
            self.inference.finish(self.run)
        self.clock.lap("wait")
        self.clock.note("gpu", self.run.milliseconds)
        assert self.run.maps is not None
        return self.run.maps


class TensorRTBackend(Backend):
    """Runs on one CUDA device with the bundle's typed segments and compiled kernels; needs neither PyTorch nor Triton.

    All work is queued in one stream; a lock is held while it is queued or waited for.

    Raises:
        BackendError: there is no driver, no such device, no TensorRT, or no code for this device in the bundle; or it
            does not compute in this type.
        BundleError: the bundle has no compiled kernels.
    """

    name = "tensorrt"
    # A recorded inference starts from noise, and has its times in it.
    starts_warm = False

    def __init__(self, bundle: Bundle, config: CounterConfig):
        self.model, self._bundle = bundle.model, bundle
        self.compute_type = _resolve_type(config.compute_type)
        ordinal = int(config.device.partition(":")[2] or 0)
        self.device = f"cuda:{ordinal}"
        found = check_requirements(bundle, ordinal)
        self._lock = threading.RLock()
        self._idle: list[DoubleBuffer] = []
        self._inferences: GraphCache[InferenceKey, Inference] = GraphCache(_INFERENCES)
        with ExitStack() as on_error:
            self._context = Context(ordinal, found.driver)
            on_error.callback(self._context.close)
            self._stream = Stream(self._context)
            self._copies, self._read = ImageCopies(self._stream), Event(self._context)
            self._launcher = Launcher(self._context, found.cubins.entries, found.cubins.read)
            device = self._context.device
            major, minor = device.capability
            gpu = {
                "name": device.name,
                "capability": f"{major}.{minor}",
                "driver": ".".join(map(str, device.driver_version)),
            }
            cache = CompiledCache(compiled_folder(config.cache_dir))
            self._engines = EngineStore(found.library, bundle, self.compute_type, gpu, cache)
            on_error.callback(self._close_engines)
            self._build_engines()
            kernels = Kernels(self._launcher, self._stream, bundle.model, self.compute_type)
            self._runtime = Runtime(bundle, self.compute_type, self._stream, kernels, self._engines)
            self._plain = PlainNetwork(self._runtime, self._launcher)
            on_error.pop_all()

    def load(self, img: Any, color: str, stream: Any) -> Any:
        """As of the base class; an array on this device is taken where it is."""
        if isinstance(img, DeviceImage):
            return img
        if is_device_array(img):
            if color not in ("rgb", "bgr"):
                raise ConfigError(f'color must be "rgb" or "bgr", got {color!r}')
            with self._lock:
                return device_image(img, self._context, self._stream, color=color, caller=stream)
        if stream is not None:
            raise ConfigError(f"stream goes with a picture on the GPU, got a {type(img).__name__}; leave it out")
        return load_image(img, color=color)

    def take(self, img: Any, *, color: str) -> Any:
        """As of the base class; an array on this device is copied there."""
        image = self.load(img, color, None)
        if not isinstance(image, DeviceImage):
            return image
        with self._lock:
            return self._copies.copy(image)

    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        """As of the base class; a picture is loaded and uploaded while the GPU computes the one before."""
        running: _Launched | None = None
        source = UntilError(work)
        with self._uploads() as uploads:
            try:
                for image, request, clock in source:
                    slot = None if isinstance(image, DeviceImage) else uploads.upload(image)
                    clock.lap("upload")
                    before, running = running, None
                    maps = before.collect() if before else None
                    running = self._launch(image, slot, uploads, request, clock)
                    # While the GPU computes, the caller counts the picture before.
                    if maps is not None:
                        yield maps
                before, running = running, None
                if before:
                    yield before.collect()
                source.raise_error()
            finally:
                # Left early: the picture's owner may free it only once nothing reads it any more.
                if running:
                    running.collect()

    def infer(self, image: Any, request: Request, clock: Stopwatch) -> TileMaps:
        (maps,) = self.infer_all([(image, request, clock)])
        return maps

    def upload(self, array: np.ndarray) -> PlainArray:
        return self._plain.upload(array)

    def download(self, array: PlainArray) -> np.ndarray:
        return self._plain.download(array)

    def encode(self, image: PlainArray) -> tuple[PlainArray, PlainArray]:
        return self._plain.encode(image)

    def decode(self, features: PlainArray, x_t: PlainArray, t: float) -> PlainArray:
        return self._plain.decode(features, x_t, t)

    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        self._plain.ddim_update(x_t, x_0, estimate, change, coefficients)

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Of a map that was laid together on the host from several tiles, so it is searched there."""
        return _core.find_peaks(heatmap, threshold)

    def close(self) -> None:
        with self._lock:
            if not self._context.is_open:
                return
            idle, self._idle = self._idle, []
            closers = [self._inferences.close, self._plain.close, *(x.close for x in idle), self._launcher.close]
            # The context last: it waits for the streams, and frees what the others left.
            close_all([*closers, self._close_engines, self._context.close])

    def _build_engines(self) -> None:
        """Build those of common sizes now, so that the first picture does not wait for them."""
        with self._context.current():
            for program in self._bundle.programs.values():
                for stage in program.stages:
                    if isinstance(stage, SegmentStage):
                        self._engines.engine(stage, ShapeRange())

    def _close_engines(self) -> None:
        with self._context.current():
            self._engines.close()

    def _launch(
        self, image: Any, slot: Slot | None, uploads: DoubleBuffer, request: Request, clock: Stopwatch
    ) -> _Launched:
        height, width = image.shape[:2]
        key = InferenceKey(height, width, request.steps, request.samples, request.threshold is not None)
        lease = self._inferences.lease(key, lambda: Inference(self._runtime, key))
        with self._lock, self._context.current(), lease as inference:
            # Not part of the graph, as the next picture lies elsewhere, and may have other strides.
            with _reading(image, slot, uploads) as pixels:
                self._runtime.kernels.preprocess(pixels, inference.image)
            if slot is None:
                self._read.record(self._stream)
            run = inference.launch(request)
            if slot is None:
                # Its owner may write the next picture where this one lies.
                self._read.synchronize()
        clock.lap("launch")
        return _Launched(inference, run, clock, self._lock)

    @contextmanager
    def _uploads(self) -> Iterator[DoubleBuffer]:
        """Upload buffers for this thread alone."""
        with self._lock:
            buffers = self._idle.pop() if self._idle else DoubleBuffer(self._stream)
        try:
            yield buffers
        finally:
            with self._lock:
                self._idle.append(buffers)


@contextmanager
def _reading(image: Any, slot: Slot | None, uploads: DoubleBuffer) -> Iterator[DeviceImage]:
    """The picture on the device, in its slot if it was uploaded; within the block, work that reads it is queued."""
    if slot is None:
        yield image
        return
    height, width = image.shape[:2]
    with uploads.use(slot) as buffer:
        yield DeviceImage(buffer.pointer, height, width, (3 * width, 3, 1), owner=slot, close=lambda: None)


def _resolve_type(compute_type: str) -> str:
    if compute_type == "default":
        return _TYPES[0]
    if compute_type not in _TYPES:
        raise BackendError(f"backend 'tensorrt' computes in {', '.join(_TYPES)}, got {compute_type!r}")
    return compute_type
