"""OpenVINO segments with our C++ kernels between them: the default on a CPU."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np

try:
    import openvino as ov
except ImportError as error:
    from engine.errors import BackendError

    raise BackendError("backend 'openvino' needs the package openvino: pip install openvino") from error

from engine import _core
from engine.backends.base import Backend
from engine.bundle import Bundle, SegmentStage
from engine.config import CounterConfig
from engine.errors import BackendError
from engine.program import Program, Segment

_PRECISIONS = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}


class OpenVINOBackend(Backend):
    """Runs on the CPU; one compiled model per segment serves every picture size."""

    name = "openvino"
    device = "cpu"

    def __init__(self, bundle: Bundle, config: CounterConfig):
        self._threads = config.cpu_threads or os.cpu_count() or 1
        self._core = ov.Core()
        self.model = bundle.model
        self.compute_type = self._resolve_type(config.compute_type)
        options = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[self.compute_type],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads,
        }
        if config.cache_dir is not None:
            options["CACHE_DIR"] = str(config.cache_dir)

        def compile_segment(stage: SegmentStage) -> Segment:
            try:
                model = self._core.compile_model(str(bundle.path / stage.graph), "CPU", options)
            except RuntimeError as error:
                raise BackendError(f"OpenVINO cannot compile {bundle.path / stage.graph}: {error}") from error
            return _CompiledSegment(model, stage)

        attend = {"criss_cross_attention": self._attend}
        self._encoder = Program(bundle.programs["encoder"], compile_segment, attend)
        self._decoder = Program(bundle.programs["decoder"], compile_segment, attend)

    def _resolve_type(self, compute_type: str) -> str:
        native_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if compute_type == "default":
            return "bfloat16" if native_bfloat16 else "float32"
        if compute_type not in _PRECISIONS:
            raise BackendError(f"backend 'openvino' computes in {', '.join(_PRECISIONS)}, got {compute_type!r}")
        if compute_type == "bfloat16" and not native_bfloat16:
            raise BackendError("this CPU has no bfloat16 instructions; use compute_type='float32' or 'default'")
        return compute_type

    def upload(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, np.float32, order="C")

    def download(self, array: np.ndarray) -> np.ndarray:
        return array

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, density = self._encoder(image)
        return features, density

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        (x_0,) = self._decoder(features, x_t, np.array([t], np.float32))
        return x_0

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

    def _attend(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray]:
        q, k, v = arrays
        out = np.empty(v.shape, np.float32)
        _core.criss_cross_attention(q, k, v, out, self._threads)
        return (out,)

    def close(self) -> None:
        del self._encoder, self._decoder


class _CompiledSegment:
    """A compiled model; each thread runs it through an infer request of its own."""

    def __init__(self, model: ov.CompiledModel, stage: SegmentStage):
        self._model = model
        self._inputs, self._outputs = stage.inputs, stage.outputs
        self._local = threading.local()

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._model.create_infer_request()
        for name, array in zip(self._inputs, arrays, strict=True):
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        request.infer()
        return [request.get_tensor(name).data for name in self._outputs]
