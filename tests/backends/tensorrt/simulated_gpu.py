"""A whole simulated GPU: the driver's stand-in with kernels that compute, and a TensorRT whose engines run on the CPU.

Kernels are NumPy over the device's memory, segments the bundle's own typed files in OpenVINO. What the engine gets out
of it is the real count, so wrong addresses, orders, shapes, types and missing waits all show.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import openvino as ov
from backends.cuda.fake_driver import FakeDriver
from backends.tensorrt.stand_in import DataType, StandIn

from engine.diffusion.latent import head_maps
from engine.kernels import reference

DEPTH, CHANNELS = 16, 32
_POINTER, _INT, _FLOAT = ctypes.c_uint64, ctypes.c_int32, ctypes.c_float
_TYPES = {onnx.TensorProto.FLOAT: (DataType.FLOAT, np.float32), onnx.TensorProto.FLOAT16: (DataType.HALF, np.float16)}


class SimulatedGpu(FakeDriver):
    """The fake driver with the model's kernels, for float16."""

    def __init__(self, model: Any, **options: Any):
        super().__init__(**options)
        self.model = model
        # What other libraries hold on the device.
        self.pictures: list[np.ndarray] = []
        self.engines: weakref.WeakSet[_Engine] = weakref.WeakSet()
        scratch = [_POINTER, _POINTER]
        for name, types, run in (
            ("normalise_pixels", [*[_POINTER] * 2, *[_INT] * 7, *[_FLOAT] * 2], self._preprocess),
            ("criss_cross_rows", [*[_POINTER] * 5, *[_INT] * 4], lambda *_: None),
            ("criss_cross_columns", [*[_POINTER] * 6, *[_INT] * 5], self._attend),
            ("ddim_step", [*[_POINTER] * 5, _INT], self._ddim_update),
            ("unfold_heads", [*[_POINTER] * 4, *[_INT] * 7, _FLOAT], self._head_maps),
            ("count_peaks", [*[_POINTER] * 3, *[_INT] * 2], self._count_peaks),
            ("write_peaks", [*[_POINTER] * 6, *[_INT] * 3], self._find_peaks),
        ):
            self.kernels[name] = ([*types, *scratch], run)

    def do_cuMemPoolDestroy(self, pool: int) -> None:  # noqa: N802
        # The last that a context frees. Whatever lives on would be collected some day, in any thread. After a call that
        # failed this may not be helped.
        assert not self.engines or self._failing is not None, "engines outlive their context"
        super().do_cuMemPoolDestroy(pool)

    def view(self, pointer: int, dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...] | None = None) -> Any:
        """Device memory as an array; strides in bytes."""
        size = np.dtype(dtype).itemsize
        strides = strides or tuple(size * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
        # The whole span, backwards too, must be memory that is there.
        reach = [(length - 1) * step for length, step in zip(shape, strides, strict=True)]
        before, after = -sum(min(x, 0) for x in reach), sum(max(x, 0) for x in reach) + size
        raw = (ctypes.c_uint8 * (before + after)).from_address(self._range(pointer - before, before + after))
        return np.ndarray(shape, dtype, raw, offset=before, strides=strides)

    def _range(self, pointer: int, nbytes: int) -> int:
        for array in self.pictures:
            low, high = np.lib.array_utils.byte_bounds(array)
            if low <= pointer and pointer + nbytes <= high:
                return pointer
        return super()._range(pointer, nbytes)

    def _preprocess(
        self, grid, image, out, height, width, row, column, channel, padded_height, padded_width, scale, shift, *_
    ) -> None:
        pixels = self.view(image, np.uint8, (height, width, 3), (row, column, channel))
        padded = self.view(out, np.float16, (3, padded_height, padded_width))
        padded[:] = 0
        values = pixels.transpose(2, 0, 1) * np.float32(scale) - np.float32(shift)
        padded[:, :height, :width] = values

    def _attend(self, grid, q, k, v, row_acc, row_lse, out, height, width, q_step, k_step, v_step, *_) -> None:
        def half(pointer: int, step: int, channels: int) -> np.ndarray:
            return self.view(pointer, np.float16, (1, height, width, channels), (0, 2 * width * step, 2 * step, 2))

        # What the first pass writes between.
        self.view(row_acc, np.float32, (height, width, CHANNELS))[:] = np.nan
        self.view(row_lse, np.float32, (height, width))[:] = np.nan
        attended = reference.criss_cross_attention(
            half(q, q_step, DEPTH), half(k, k_step, DEPTH), half(v, v_step, CHANNELS)
        )
        self.view(out, np.float16, (1, height, width, CHANNELS))[:] = attended

    def _ddim_update(self, grid, x_t, x_0, estimate, change, coefficients, size, *_) -> None:
        noisy, new, old, moved = (
            self.view(x, kind, (size,))
            for x, kind in ((x_t, np.float16), (x_0, np.float32), (estimate, np.float32), (change, np.float32))
        )
        noisy[:], old[:], moved[:] = reference.ddim_update(
            noisy, new, old, moved, self.view(coefficients, np.float32, (6,))
        )

    def _head_maps(
        self, grid, estimates, changes, heatmap, spread, samples, h, w, top, left, width, step, scale, *_
    ) -> None:
        assert (top, left, step) == (0, 0, width)
        factor = 8 // self.model.map_stride
        latents = [self.view(x, np.float32, (samples, 1, factor**2, h, w)) for x in (estimates, changes)]
        # The number of rows is not an argument, but the grid's.
        rows = grid[0]
        maps = head_maps(list(latents[0]), list(latents[1]), self.model)
        for pointer, values in zip((heatmap, spread), maps, strict=True):
            self.view(pointer, np.float32, (rows, width))[:] = values[:rows, :width]

    def _count_peaks(self, grid, heatmap, threshold, counts, *_) -> None:
        # How many each program found does not matter here: the second launch looks for itself.
        self.view(counts, np.int32, grid[:1])[:] = 0

    def _find_peaks(self, grid, heatmap, threshold, counts, points, scores, total, height, width, capacity, *_) -> None:
        limit = self.view(threshold, np.float32, (1,))[0]
        found, heights = reference.find_peaks(self.view(heatmap, np.float32, (height, width)), limit)
        assert len(heights) <= capacity
        # What every program of the first launch has written.
        assert (self.view(counts, np.int32, grid[:1]) == 0).all()
        if len(heights):
            self.view(points, np.float32, found.shape)[:] = found
            self.view(scores, np.float32, heights.shape)[:] = heights
        self.view(total, np.int32, (1,))[:] = len(heights)


class SimulatedTensorRT(StandIn):
    """TensorRT whose "engines" are the paths of typed segments."""

    def __init__(self, gpu: SimulatedGpu, rtx: bool = False):
        super().__init__(rtx)
        self.gpu = gpu
        if rtx:
            # The simulated GPU's, which the real one does not know.
            self.ComputeCapability.__members__["SM90"] = 90

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        config = SimpleNamespace(
            clear_flag=lambda flag: None,
            set_flag=lambda flag: None,
            add_optimization_profile=lambda profile: 0,
            set_compute_capability=lambda value, index: True,
        )
        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(),
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *ends: None),
            build_serialized_network=lambda network, config: (
                network.path.encode() if self.does("build", network.path) else None
            ),
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        def parse(path: str) -> bool:
            inputs = [_Input(x) for x in onnx.load(path, load_external_data=False).graph.input]
            network.path, network.num_inputs, network.get_input = path, len(inputs), inputs.__getitem__
            return True

        return SimpleNamespace(parse_from_file=parse, num_errors=0)

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        self.logger = logger
        runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: _Engine(self, plan.decode()))
        if self.rtx:
            runtime.engine_header_size, runtime.get_engine_validity = 4, lambda head: self.validity
        return runtime

    def assert_current(self) -> None:
        """TensorRT works in the context that is current in the thread."""
        assert self.gpu._stack


class _Input:
    def __init__(self, value: Any):
        self.name = value.name
        self._dimensions = value.type.tensor_type.shape.dim
        self.shape = tuple(x.dim_value if x.HasField("dim_value") else -1 for x in self._dimensions)

    def get_dimension_name(self, axis: int) -> str:
        return self._dimensions[axis].dim_param


class _Engine:
    def __init__(self, api: SimulatedTensorRT, path: str):
        self.api, self.path = api, path
        graph = onnx.load(path, load_external_data=False).graph
        self.inputs = [x.name for x in graph.input]
        self.types = {x.name: _TYPES[x.type.tensor_type.elem_type] for x in (*graph.input, *graph.output)}
        self.num_io_tensors = len(self.types)
        if api.rtx:
            self.create_runtime_config = api.runtime_config
        api.gpu.engines.add(self)

    def get_tensor_name(self, index: int) -> str:
        return list(self.types)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.types[name][0]

    def create_execution_context(self, how: Any) -> Any:
        self.api.assert_current()
        return _Context(self) if self.api.does("context") else None


@functools.cache
def _compile(path: str, shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Any:
    core = ov.Core()
    model = core.read_model(path)
    model.reshape({name: list(shape) for name, shape in shapes})
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})


class _Context:
    def __init__(self, engine: _Engine):
        self._engine, self._api = engine, engine.api
        api = engine.api
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        if self._api.rtx:
            self.is_stream_capturable = lambda stream: api.does("capturable", stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return True

    def infer_shapes(self) -> list[str]:
        self._compiled = _compile(self._engine.path, tuple(self._shapes.items()))
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._compiled.output(name).shape)

    def update_device_memory_size_for_shapes(self) -> int:
        # More than the one before, so that what they share moves.
        self._api.scratch += 8
        return self._api.scratch

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert not any(x.capture is not None for x in self._api.gpu.streams.values()), "memory moves while recorded"
        self._scratch = pointer, size

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._addresses[name] = pointer
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._api.assert_current()
        addresses, scratch = dict(self._addresses), self._scratch
        if not self._api.does("execute", stream):
            return False
        self._api.gpu._later(stream, self._work(addresses, scratch))
        return True

    def _work(self, addresses: dict[str, int], scratch: tuple[int, int]) -> Callable[[], None]:
        # A recorded graph keeps neither the context nor its engine.
        inputs, types, shapes = self._engine.inputs, self._engine.types, dict(self._shapes)
        compiled, gpu, context = self._compiled, self._api.gpu, weakref.ref(self)

        def work() -> None:
            assert context() is not None, "an execution context was freed before its work was done"
            # Others' scratch memory is overwritten.
            gpu.view(scratch[0], np.uint8, (scratch[1],))[:] = 0xAB
            results = compiled({x: gpu.view(addresses[x], types[x][1], shapes[x]).copy() for x in inputs})
            for name in types:
                if name not in inputs:
                    value = results[name]
                    gpu.view(addresses[name], types[name][1], value.shape)[:] = value

        return work
