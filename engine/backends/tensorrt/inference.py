"""One whole inference, recorded once as a CUDA graph and replayed for every picture of its size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from engine.backends.base import MAX_RECORDED_CALLS
from engine.backends.cuda.arrays import DeviceArray, DeviceMemory, to_storage
from engine.backends.cuda.context import close_all
from engine.backends.cuda.graphs import Graph, record
from engine.backends.cuda.memory import PinnedBuffer
from engine.backends.cuda.streams import Event
from engine.backends.tensorrt.network import RecordableNetwork, Runtime
from engine.config import FEATURE_STRIDE, PADDING
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Latents, Request, denoise, initial_noise
from engine.errors import BackendError


@dataclass(frozen=True)
class InferenceKey:
    """What a recorded inference is good for.

    Attributes:
        height, width: of the picture, in pixels.
        steps, samples: of the sampler.
        has_peaks: whether it looks for peaks.
    """

    height: int
    width: int
    steps: int
    samples: int
    has_peaks: bool


class Run:
    """One launch of an inference.

    Attributes:
        maps: its result, once it was waited for.
        error: in place of it, what went wrong; it is raised where the result is asked for.
        milliseconds: that the GPU took.
    """

    def __init__(self) -> None:
        self.maps: TileMaps | None = None
        self.error: Exception | None = None
        self.milliseconds = 0.0


class Inference:
    """Everything from the network's input to maps and peaks on the host, for one key; used by one thread at a time.

    Making one runs it plainly on an empty picture, which loads and allocates whatever it needs, and records it.

    Args:
        runtime: of the backend.
        key: what it is for.

    Attributes:
        image: the network's input, to be filled in the runtime's stream before :meth:`launch`.

    Raises:
        CudaOutOfMemoryError: the device has not as much memory.
        BackendError: anything else failed; nothing is left behind.
    """

    def __init__(self, runtime: Runtime, key: InferenceKey):
        self._runtime, self._key, self._stream = runtime, key, runtime.stream
        height, width = (side + -side % PADDING for side in (key.height, key.width))
        self._network = RecordableNetwork(runtime, height, width)
        self.image = self._network.image
        self._memory = DeviceMemory(self._stream)
        self._graph: Graph | None = None
        self._running: Run | None = None
        # What the device holds of the request.
        self._seed: int | None = None
        self._threshold: float | None = None
        self._resources: list[Event | PinnedBuffer] = []
        try:
            self._started, self._done = self._event(), self._event()
            self._allocate(height // FEATURE_STRIDE, width // FEATURE_STRIDE)
            self._stream.fill(self.image.buffer)
            self._prepare(Request(key.steps, key.samples, seed=0, threshold=1.0 if key.has_peaks else None))
            self._work()
            if key.steps * key.samples <= MAX_RECORDED_CALLS:
                # Again: a later segment may have moved the scratch memory, and no context may hear of it only while it
                # is recorded.
                self._work()
                self._network.check_capturable()
                self._graph = record(self._stream, self._work)
        except BaseException:
            self.close()
            raise

    def launch(self, request: Request) -> Run:
        """Queue the inference of what was put into :attr:`image`; it does not wait.

        A run that nobody has waited for yet is waited for first, as its results would be overwritten.
        """
        self._settle()
        self._prepare(request)
        self._started.record(self._stream)
        if self._graph is None:
            self._work()
        else:
            self._graph.launch(self._stream)
        self._done.record(self._stream)
        self._running = Run()
        return self._running

    def finish(self, run: Run) -> TileMaps:
        """Wait for a run, and give its result, which no later run overwrites.

        Raises:
            BackendError: it failed, even if another thread waited for it then.
        """
        if run is self._running:
            self._settle()
        if run.error is not None:
            raise run.error
        assert run.maps is not None
        return run.maps

    def close(self) -> None:
        """Wait for what runs, and free everything. Closing twice is harmless."""
        graph, self._graph = self._graph, None
        resources, self._resources = self._resources[::-1], []
        context = self._stream.context
        closers = [
            self._settle,
            # Pinned memory and execution contexts are not freed in the order of the stream.
            *([self._stream.synchronize] if context.is_open and resources else []),
            *([graph.close] if graph else []),
            *(x.close for x in resources),
            self._memory.close,
            self._network.close,
        ]
        close_all(closers)

    def _settle(self) -> None:
        """Wait for what runs; what goes wrong is its owner's to hear, who may be another thread."""
        run = self._running
        if run is None:
            return
        try:
            with self._stream.context.current():
                self._done.synchronize()
                run.milliseconds = self._done.milliseconds_since(self._started)
            run.maps = self._read()
        except Exception as error:
            run.error = error
        self._running = None

    def _read(self) -> TileMaps:
        """Copies of what a run that is done left on the host."""
        heatmap, spread, rate, signature = (self._host[x].copy() for x in ("heatmap", "spread", "rate", "signature"))
        peaks = None
        if self._key.has_peaks:
            total, most = int(self._host["total"][0]), len(self._host["scores"])
            if not 0 <= total <= most:
                raise BackendError(
                    f"the GPU says that it found {total} peaks in a map that has at most {most}: its memory is "
                    "damaged; make a new CrowdCounter"
                )
            peaks = self._host["points"][:total].copy(), self._host["scores"][:total].copy()
        return TileMaps(heatmap, spread, rate[0, 0], signature[0], peaks)

    def _event(self) -> Event:
        event = Event(self._stream.context, timing=True)
        self._resources.append(event)
        return event

    def _allocate(self, latent_height: int, latent_width: int) -> None:
        key, model, new = self._key, self._runtime.bundle.model, self._memory.new
        latent = (1, model.latent_channels, latent_height, latent_width)
        samples = (key.samples, *latent[1:])
        self._latent_shape = latent
        self._noise, self._x_t = new(samples, self._runtime.compute_type), new(latent, self._runtime.compute_type)
        self._estimates, self._changes = new(samples, "float32"), new(samples, "float32")
        height, width = (-(-side // model.map_stride) for side in (key.height, key.width))
        self._heatmap, self._spread = new((height, width), "float32"), new((height, width), "float32")
        results = {"heatmap": self._heatmap, "spread": self._spread}
        if key.has_peaks:
            self._limit = new((1,), "float32")
            self._peaks = self._runtime.kernels.new_peaks(self._memory, height, width)
            results |= {"points": self._peaks.points, "scores": self._peaks.scores, "total": self._peaks.total}
        self._results = results
        self._host = {name: self._pinned(x.shape, x.dtype) for name, x in results.items()}
        self._host["rate"] = self._pinned((1, 1, *latent[2:]), "float32")
        self._host["signature"] = self._pinned((1, model.signature), "float32")

    def _pinned(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        buffer = PinnedBuffer(self._stream.context, math.prod(shape) * np.dtype(dtype).itemsize)
        self._resources.append(buffer)
        return buffer.array(dtype, shape)

    def _prepare(self, request: Request) -> None:
        """Bring to the device what differs from the last request."""
        if request.seed != self._seed:
            self._seed = None
            for sample in range(self._key.samples):
                noise = initial_noise(request.seed, self._latent_shape, sample)
                stored = to_storage(noise, self._noise.dtype)
                self._stream.upload(self._noise.buffer, stored, sample * stored.nbytes)
            self._seed = request.seed
        if request.threshold is not None and request.threshold != self._threshold:
            self._threshold = None
            self._stream.upload(self._limit.buffer, np.array([_not_below(request.threshold)], np.float32))
            self._threshold = request.threshold

    def _work(self) -> None:
        """Queue all of it: what is run plainly once, and recorded."""
        stream, network, key = self._stream, self._network, self._key
        features, rate, signature = network.encode()
        stream.fill(self._estimates.buffer)
        stream.fill(self._changes.buffer)
        for sample in range(key.samples):
            noise, x_t = self._sample(self._noise, sample), self._x_t
            stream.copy(x_t.buffer, noise.pointer, x_t.nbytes)
            latents = Latents(x_t, self._sample(self._estimates, sample), self._sample(self._changes, sample))
            denoise(network, features, latents, key.steps, self._runtime.bundle.model.map_scale)
        self._runtime.kernels.head_maps(self._estimates, self._changes, self._heatmap, self._spread)
        if key.has_peaks:
            self._runtime.kernels.find_peaks(self._heatmap, self._limit, self._peaks)
        for name, array in {**self._results, "rate": rate, "signature": signature}.items():
            stream.download(array.buffer, self._host[name])

    def _sample(self, arrays: DeviceArray, sample: int) -> DeviceArray:
        """One sample's latent [1, L, h, w] of all samples' [S, L, h, w]."""
        nbytes = arrays.nbytes // self._key.samples
        return DeviceArray(
            arrays.pointer + sample * nbytes, self._latent_shape, arrays.dtype, arrays.step, arrays.buffer
        )


def _not_below(threshold: float) -> np.float32:
    """The smallest float32 that is not below a float64: the kernel then compares as the host does."""
    rounded = np.float32(threshold)
    # NumPy 2 compares a float32 with a Python number in float32, where the two are always equal.
    return rounded if float(rounded) >= threshold else np.nextafter(rounded, np.float32(np.inf))
