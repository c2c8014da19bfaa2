"""The network in OpenVINO: a bundle's two programs with our C++ kernels between their segments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov

from engine import _core
from engine.backends.openvino.graph import CHANNELS_FIRST
from engine.backends.openvino.models import SegmentModels, Shapes
from engine.bundle.bundle import Bundle
from engine.bundle.program import Program, Segment
from engine.bundle.stages import SegmentStage
from engine.image.tiles import input_table, padded_shape
from engine.system.recently_used import RecentlyUsed

# Inference requests of one segment that are kept, each with the memory for pictures of one size.
_MOST_SIZES = 4


class Worker:
    """A :class:`engine.diffusion.sampler.Network` for one tile at a time: its arrays are overwritten by the next.

    Maps between segments are float32 or, as bits in uint16, bfloat16. Those of the programs' ends are float32
    [1, C, h, w]; so is the shape of the features, whatever their layout in memory.

    Args:
        threads: of the kernels.
        static_shape: compile the segments for each size of picture, which takes a moment and makes them faster.

    Attributes:
        model: shape of the network.
    """

    def __init__(self, models: SegmentModels, bundle: Bundle, threads: int, static_shape: bool):
        self.model = bundle.model
        self._models, self._threads, self._static_shape = models, threads, static_shape
        kernels = _Kernels(threads)
        self._encoder = Program(bundle.programs["encoder"], self._segment, kernels)
        self._decoder = Program(bundle.programs["decoder"], self._segment, kernels)
        self._bfloat16 = models.element == ov.Type.bf16
        self._table = input_table(bundle.model)
        self._image = np.empty((0, 0, 0, 0), np.float32)
        self._time = np.zeros(1, np.float32)

    def prepare(self, tile: np.ndarray) -> np.ndarray:
        """As of the contract; the image is float32."""
        shape = padded_shape(*tile.shape[:2])
        if self._image.shape != shape:
            self._image = np.empty(shape, np.float32)
        _core.preprocess(tile, self._table, self._image, threads=self._threads)
        return self._image

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As of the contract."""
        features, rate, signature = self._encoder(image)
        return features.transpose(0, 3, 1, 2) if self._static_shape else features, rate, signature

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        """As of the contract."""
        if self._bfloat16 and features.dtype == np.float32:
            features = to_bfloat16(features)
        if self._static_shape:
            features = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
        self._time[0] = t
        (x_0,) = self._decoder(features, x_t, self._time)
        return x_0

    def ddim_update(
        self,
        x_t: np.ndarray,
        x_0: np.ndarray,
        estimate: np.ndarray,
        change: np.ndarray,
        coefficients: tuple[float, ...],
    ) -> None:
        """As of the contract."""
        _core.ddim_update(x_t, x_0, estimate, change, coefficients, self._threads)

    def upload(self, array: np.ndarray) -> np.ndarray:
        """As of the contract."""
        return np.array(array, np.float32, order="C")

    def download(self, array: np.ndarray) -> np.ndarray:
        """As of the contract."""
        return to_float32(array)

    def _segment(self, stage: SegmentStage) -> Segment:
        if self._static_shape:
            return StaticSegment(self._models, stage)
        return _DynamicSegment(self._models, stage, self._threads)


class _DynamicSegment:
    """A segment whose request takes inputs of any size."""

    def __init__(self, models: SegmentModels, stage: SegmentStage, threads: int):
        model = models.for_all_sizes(stage)
        self._request = model.create_infer_request()
        self._inputs = stage.inputs
        known = {name for port in model.outputs for name in port.names}
        self._outputs = [name if name in known else name + CHANNELS_FIRST for name in stage.outputs]
        self._turned = {name: _ChannelsLast(threads) for name in self._outputs if name.endswith(CHANNELS_FIRST)}

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for name, array in zip(self._inputs, arrays, strict=True):
            self._request.set_tensor(name, _tensor(array))
        _run(self._request)
        made = {name: _array(self._request.get_tensor(name)) for name in self._outputs}
        return [self._turned[name](array) if name in self._turned else array for name, array in made.items()]


class StaticSegment:
    """A segment with a request for each size of its inputs."""

    def __init__(self, models: SegmentModels, stage: SegmentStage):
        self._models, self._stage = models, stage
        self._bound: RecentlyUsed[Shapes, _Bound] = RecentlyUsed(_MOST_SIZES)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        shapes = tuple(array.shape for array in arrays)
        bound = self._bound.find(shapes, lambda: _Bound(self._models.for_size(self._stage, shapes), self._stage))
        return bound(arrays)


class _Bound:
    """A request whose memory stays where it is: arrays it has seen before are not handed over again."""

    def __init__(self, model: ov.CompiledModel, stage: SegmentStage):
        self._request = model.create_infer_request()
        self._names = stage.inputs
        self._arrays: list[np.ndarray | None] = [None] * len(stage.inputs)
        self._outputs = [_array(self._request.get_tensor(name)) for name in stage.outputs]

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        for i, (name, array) in enumerate(zip(self._names, arrays, strict=True)):
            if array is not self._arrays[i]:
                # Ctrl-C may come before the new array is noted: the old one is not the request's any more.
                self._arrays[i] = None
                self._request.set_tensor(name, _tensor(array))
                self._arrays[i] = array
        _run(self._request)
        return self._outputs


class _Kernels(dict[str, Segment]):
    """A kernel of its own for every stage that asks for one."""

    def __init__(self, threads: int):
        super().__init__()
        self._threads = threads

    def __missing__(self, name: str) -> Segment:
        assert name == "criss_cross_attention"
        return _Attention(self._threads)


class _Attention:
    """The kernel of attention, with its output."""

    def __init__(self, threads: int):
        self._threads, self._kept = threads, _KeptArray()

    def __call__(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray]:
        q, k, v = arrays
        out = self._kept.like(v.shape, v.dtype)
        _core.criss_cross_attention(q, k, v, out, self._threads)
        return (out,)


class _ChannelsLast:
    """The kernel that moves [1, C, h, w] to [1, h, w, C], with its output."""

    def __init__(self, threads: int):
        self._threads, self._kept = threads, _KeptArray()

    def __call__(self, array: np.ndarray) -> np.ndarray:
        batch, channels, height, width = array.shape
        out = self._kept.like((batch, height, width, channels), array.dtype)
        _core.to_channels_last(array, out, self._threads)
        return out


class _KeptArray:
    """An output that is kept while its size stays: fresh memory costs as much as the arithmetic."""

    def __init__(self) -> None:
        self._array = np.empty(0, np.float32)

    def like(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of that shape and type, with whatever is in it."""
        if self._array.shape != shape or self._array.dtype != dtype:
            self._array = np.empty(shape, dtype)
        return self._array


def _run(request: ov.InferRequest) -> None:
    # Not infer(): that returns as if all were well when a model of one thread finds no memory, and leaves the outputs
    # of the picture before.
    try:
        request.start_async()
    finally:
        # Also after Ctrl-C: an inference that goes on would read memory that others write, or that is freed. One that
        # never started is not waited for.
        request.wait()


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Float32 -> the bits of the nearest bfloat16 as uint16; of two, the even one.

    >>> to_bfloat16(np.array([1.0, -2.0], np.float32)).tolist() == [0x3F80, 0xC000]
    True
    """
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def to_float32(array: np.ndarray) -> np.ndarray:
    """The bits of bfloat16 -> float32; float32 as it is."""
    return array if array.dtype == np.float32 else (array.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _tensor(array: np.ndarray) -> ov.Tensor:
    if array.dtype == np.float32:
        return ov.Tensor(array, shared_memory=True)
    return ov.Tensor(array, ov.Shape(array.shape), ov.Type.bf16)


def _array(tensor: ov.Tensor) -> np.ndarray:
    # NumPy has no bfloat16: OpenVINO shows it as float16.
    return tensor.data if tensor.element_type == ov.Type.f32 else tensor.data.view(np.uint16)
