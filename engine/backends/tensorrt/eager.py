"""The network call by call, nothing recorded: for comparing it with the reference, step by step."""

from __future__ import annotations

import threading
import weakref
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from engine.backends.cuda.arrays import DeviceArray, DeviceMemory, download
from engine.backends.cuda.context import close_all
from engine.backends.cuda.graphs import GraphCache
from engine.backends.cuda.kernels import Kernels
from engine.backends.cuda.launcher import Launcher
from engine.backends.cuda.streams import Stream
from engine.backends.tensorrt.network import RecordableNetwork, Runtime
from engine.config import FEATURE_STRIDE
from engine.image.tiles import to_input

# Sizes that are kept, each with its activations.
_NETWORKS = 2


class EagerArray:
    """An array of the caller's, freed with its last user.

    Attributes:
        values: where it lies now. Uploaded as float32, it is rounded once it enters the network, and stays rounded.
    """

    def __init__(self, stream: Stream, shape: tuple[int, ...], dtype: str):
        self._memory = DeviceMemory(stream)
        self.values: DeviceArray = self._memory.new(shape, dtype)
        # At exit the driver frees all by itself.
        weakref.finalize(self, self._memory.close).atexit = False

    def round_to(self, dtype: str, stream: Stream) -> DeviceArray:
        """Its values in a type, from now on; on the way through the host they are rounded to the nearest."""
        if self.values.dtype != dtype:
            # The old memory is freed with the new one: an array is rounded once at most.
            self.values = self._memory.upload(download(self.values, stream), dtype)
        return self.values


class _RunningNetwork(RecordableNetwork):
    """A network that is left while its work is queued: it waits for that before it is freed."""

    def close(self) -> None:
        stream = self._runtime.stream
        # Execution contexts are not freed in the order of the stream.
        close_all([*([stream.synchronize] if stream.context.is_open else []), super().close])


class EagerNetwork:
    """A :class:`engine.diffusion.sampler.Network` on device arrays; may be used by several threads.

    It has a stream of its own, which is never recorded: Python may free an array at any time.

    Attributes:
        model: shape of the network.
    """

    def __init__(self, runtime: Runtime, launcher: Launcher):
        self.model = runtime.bundle.model
        self._stream = Stream(runtime.stream.context)
        kernels = Kernels(launcher, self._stream, runtime.bundle.model, runtime.compute_type)
        self._runtime = replace(runtime, stream=self._stream, kernels=kernels)
        self._networks: GraphCache[tuple[int, ...], _RunningNetwork] = GraphCache(_NETWORKS)
        self._lock = threading.Lock()

    def upload(self, array: np.ndarray) -> EagerArray:
        """A float32 array with these values."""
        with self._lock:
            return self._new(np.asarray(array, np.float32))

    def download(self, array: EagerArray) -> np.ndarray:
        """The values, as float32."""
        with self._lock:
            return download(array.values, self._stream)

    def prepare(self, tile: np.ndarray) -> EagerArray:
        """As of the contract, by the host."""
        return self.upload(to_input(tile, self.model))

    def encode(self, image: EagerArray) -> tuple[EagerArray, ...]:
        """As of the contract."""
        with self._lock, self._network(image.values.shape) as network:
            pixels = image.round_to(self._runtime.compute_type, self._stream)
            self._stream.copy(network.image.buffer, pixels.pointer, pixels.nbytes)
            return tuple(self._copy(array) for array in network.encode())

    def decode(self, features: EagerArray, x_t: EagerArray, t: float) -> EagerArray:
        """Features, noisy latent and time -> clean latent."""
        half = self._runtime.compute_type
        shape = tuple(FEATURE_STRIDE * side for side in features.values.shape[2:])
        with self._lock, self._network(shape) as network:
            condition, noisy = (x.round_to(half, self._stream) for x in (features, x_t))
            return self._copy(network.decode(condition, noisy, t))

    def ddim_update(
        self,
        x_t: EagerArray,
        x_0: EagerArray,
        estimate: EagerArray,
        change: EagerArray,
        coefficients: tuple[float, ...],
    ) -> None:
        """One step, in place; ``x_t`` is rounded as the decoder reads it."""
        with self._lock:
            numbers = self._new(np.array(coefficients, np.float32))
            noisy = x_t.round_to(self._runtime.compute_type, self._stream)
            self._runtime.kernels.ddim_update(noisy, x_0.values, estimate.values, change.values, numbers.values)

    def close(self) -> None:
        """Free the networks; arrays go with their users, or with the context."""
        with self._lock:
            self._networks.close()

    def _network(self, shape: tuple[int, ...]) -> AbstractContextManager[RecordableNetwork]:
        height, width = shape[-2:]
        return self._networks.lease((height, width), lambda: _RunningNetwork(self._runtime, height, width))

    def _new(self, values: np.ndarray) -> EagerArray:
        array = EagerArray(self._stream, values.shape, "float32")
        self._stream.upload(array.values.buffer, np.ascontiguousarray(values))
        return array

    def _copy(self, array: DeviceArray) -> EagerArray:
        copy = EagerArray(self._stream, array.shape, array.dtype)
        self._stream.copy(copy.values.buffer, array.pointer, array.nbytes)
        return copy
