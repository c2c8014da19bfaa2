"""TensorRT on a GPU: each count is one CUDA graph, and pictures are uploaded while the one before is computed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from engine import _core
from engine.backends.base import Backend, Work
from engine.backends.compiled_cache import CompiledCache, compiled_folder
from engine.backends.cuda.context import Context, close_all
from engine.backends.cuda.device_arrays import DeviceImage, device_image
from engine.backends.cuda.double_buffer import DoubleBuffer, Slot
from engine.backends.cuda.driver import CudaOutOfMemoryError
from engine.backends.cuda.graphs import GraphCache
from engine.backends.cuda.image_copies import ImageCopies
from engine.backends.cuda.kernels import Kernels
from engine.backends.cuda.launcher import Launcher
from engine.backends.cuda.streams import Event, Stream
from engine.backends.tensorrt.eager import EagerNetwork
from engine.backends.tensorrt.engines import EngineStore
from engine.backends.tensorrt.inference import Inference, InferenceKey, Run
from engine.backends.tensorrt.network import Runtime
from engine.backends.tensorrt.requirements import check_requirements, resolve_type
from engine.backends.tensorrt.uploads import Uploads
from engine.bundle.bundle import Bundle
from engine.config import CounterConfig
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Request
from engine.errors import CLOSED, ConfigError, EngineError
from engine.image.load import is_device_array, load_image
from engine.image.tiles import HostPicture, Picture
from engine.system.forks import abandon_after_fork, never_free
from engine.system.ordered_map import UntilError
from engine.system.stopwatch import Stopwatch

_log = logging.getLogger("engine")

# Recorded inferences that are kept, each with its activations: about 100 MB for a 1024 x 768 picture.
_INFERENCES = 8
# Seconds that closing waits for the pictures that other threads are uploading.
_CLOSE_TIMEOUT = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class _Uploaded:
    """A picture on its way to the device, in ``slot`` unless it lay there before."""

    image: Any
    slot: Slot | None
    request: Request
    clock: Stopwatch


@dataclass(frozen=True)
class _Launched:
    """A run that was queued for a picture."""

    inference: Inference
    run: Run
    clock: Stopwatch


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
        self.model = bundle.model
        self.compute_type = resolve_type(config.compute_type)
        ordinal = int(config.device.partition(":")[2] or 0)
        self.device = f"cuda:{ordinal}"
        found = check_requirements(bundle, ordinal, self.compute_type)
        self._lock = threading.RLock()
        self._inferences: GraphCache[InferenceKey, Inference] = GraphCache(_INFERENCES)
        with ExitStack() as on_error:
            self._context = Context(ordinal, found.driver)
            on_error.callback(self._context.close)
            self._stream = Stream(self._context)
            self._copies, self._read = ImageCopies(self._stream), Event(self._context)
            self._uploads = Uploads(self._stream)
            self._launcher = Launcher(self._context, found.cubins.entries, found.cubins.read)
            device = self._context.device
            capability, driver = (".".join(map(str, x)) for x in (device.capability, device.driver_version))
            gpu = {"name": device.name, "capability": capability, "driver": driver}
            cache = CompiledCache(compiled_folder(config.cache_dir))
            self._engines = EngineStore(found.library, bundle, self.compute_type, gpu, cache)
            on_error.callback(self._close_engines)
            with self._context.current():
                self._engines.build_common()
            kernels = Kernels(self._launcher, self._stream, bundle.model, self.compute_type)
            self._runtime = Runtime(bundle, self.compute_type, self._stream, kernels, self._engines)
            on_error.pop_all()
        abandon_after_fork(self)

    def load(self, img: Any, color: str, cuda_stream: Any, read: Callable[..., np.ndarray] = load_image) -> Picture:
        """As of the base class; an array on this device is taken where it is."""
        if isinstance(img, DeviceImage):
            return img
        if is_device_array(img):
            if color not in ("rgb", "bgr"):
                raise ConfigError(f'color must be "rgb" or "bgr", got {color!r}')
            with self._opened():
                return device_image(img, self._context, self._stream, color=color, caller=cuda_stream)
        if cuda_stream is not None:
            raise ConfigError(f"stream goes with a picture on the GPU, got a {type(img).__name__}; leave it out")
        return HostPicture(read(img, color=color))

    def snapshot(self, img: Any, *, color: str, **options: Any) -> Any:
        """As of the base class; an array on this device is copied there."""
        image = self.load(img, color, None, partial(load_image, **options))
        if not isinstance(image, DeviceImage):
            return image.pixels
        try:
            with self._opened():
                return self._with_room(partial(self._copies.copy, image))
        finally:
            image.close()

    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        """As of the base class; a picture is loaded and uploaded while the GPU computes the one before."""
        running: _Launched | None = None
        with self._uploads.lend() as buffers:
            # What fails ends the results, but only after those of the pictures before it.
            source = UntilError(self._uploaded(work, buffers))
            try:
                for picture in source:
                    before, running = running, None
                    maps = self._collect(before) if before else None
                    try:
                        running = self._launch(picture, buffers)
                    except Exception:
                        if maps is not None:
                            yield maps
                        raise
                    # While the GPU computes, the caller counts the picture before.
                    if maps is not None:
                        yield maps
                before, running = running, None
                if before:
                    yield self._collect(before)
                source.raise_error()
            finally:
                # Left early: the picture's owner may free it only once nothing reads it any more.
                if running and self._context.is_open:
                    self._collect(running)

    def infer(self, tile: Any, request: Request, clock: Stopwatch) -> TileMaps:
        (maps,) = self.infer_all([(tile, request, clock)])
        return maps

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Of a map that was laid together on the host from several tiles, so it is searched there."""
        return _core.find_peaks(heatmap, threshold)

    @contextmanager
    def network(self) -> Iterator[EagerNetwork]:
        """As of the base class: nothing is recorded."""
        with self._opened():
            network = EagerNetwork(self._runtime, self._launcher)
        try:
            yield network
        finally:
            if self._context.is_open:
                with self._opened():
                    network.close()

    def close(self) -> None:
        """As of the base class. What other threads have queued is computed to its end, and they get its result."""
        # First of all: after a fork nobody may be there to let the locks go.
        if not self._context.is_open:
            return
        if not self._uploads.stop(_CLOSE_TIMEOUT):
            _log.warning("a picture is still being uploaded; the memory of this CrowdCounter is not freed")
            self.abandon()
            return
        with self._lock:
            if not self._context.is_open:
                return
            closers = [self._inferences.close, self._uploads.close, self._launcher.close]
            # The context last: it waits for the streams, and frees what the others left.
            close_all([*closers, self._close_engines, self._context.close])

    def abandon(self) -> None:
        """Leave everything as it is: in a forked process CUDA and TensorRT cannot free it."""
        self._context.abandon()
        # Those who hold the locks may be threads of the other process.
        self._lock = threading.RLock()
        self._uploads.abandon()
        never_free(self)

    def _close_engines(self) -> None:
        with self._context.current():
            self._engines.close()

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """This thread alone uses the stream, and nothing is freed meanwhile."""
        with self._lock:
            if not self._context.is_open:
                raise EngineError(CLOSED)
            with self._context.current():
                yield

    def _with_room(self, action: Callable[[], T]) -> T:
        """What ``action`` gives; if memory runs out, recorded inferences are given up and it is tried once more."""
        try:
            return action()
        except CudaOutOfMemoryError as error:
            with self._opened():
                if not self._inferences.make_room(error):
                    raise
                # Their memory is there for other streams once this one has come to where it is freed.
                self._stream.synchronize()
        return action()

    def _uploaded(self, work: Iterable[Work], buffers: DoubleBuffer) -> Iterator[_Uploaded]:
        for image, request, clock in work:
            slot = None
            if not isinstance(image, DeviceImage):
                with self._uploads.writing():
                    slot = self._with_room(partial(buffers.upload, image))
            clock.lap("upload")
            yield _Uploaded(image, slot, request, clock)

    def _launch(self, picture: _Uploaded, buffers: DoubleBuffer) -> _Launched:
        request, slot = picture.request, picture.slot
        height, width = picture.image.shape[:2]
        key = InferenceKey(height, width, request.steps, request.samples, request.threshold is not None)
        lease = self._inferences.lease(key, lambda: Inference(self._runtime, key))
        with self._opened(), lease as inference:
            # Not part of the graph, as the next picture lies elsewhere, and may have other strides.
            with _reading(picture, buffers) as pixels:
                self._runtime.kernels.preprocess(pixels, inference.image)
            if slot is None:
                self._read.record(self._stream)
            run = inference.launch(request)
            if slot is None:
                # Its owner may write the next picture where this one lies.
                self._read.synchronize()
        picture.clock.lap("launch")
        return _Launched(inference, run, picture.clock)

    def _collect(self, launched: _Launched) -> TileMaps:
        """Wait for the result of a run; closing has waited for it."""
        with self._lock:
            maps = launched.inference.finish(launched.run)
        launched.clock.lap("wait")
        launched.clock.note("gpu", launched.run.milliseconds)
        return maps


@contextmanager
def _reading(picture: _Uploaded, buffers: DoubleBuffer) -> Iterator[DeviceImage]:
    """The picture on the device, in its slot if it was uploaded; within the block, work that reads it is queued."""
    if picture.slot is None:
        yield picture.image
        return
    height, width = picture.image.shape[:2]
    with buffers.use(picture.slot) as buffer:
        yield DeviceImage(buffer.pointer, height, width, (3 * width, 3, 1), owner=picture.slot, close=lambda: None)
