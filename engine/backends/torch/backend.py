"""The network in PyTorch: the reference that every other backend is compared with."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from engine.errors import BackendError

try:
    import safetensors  # noqa: F401
    import torch
except ImportError as error:
    message = f"backend 'torch' needs PyTorch and safetensors ({error}): pip install 'crowd-engine[train]'"
    raise BackendError(message) from error

from engine import _core
from engine.backends.base import MAX_RECORDED_CALLS, Backend, Request
from engine.backends.torch.kernels import DeviceCoefficients, register_triton_kernels
from engine.backends.torch.precision import full_precision
from engine.backends.torch.recorded import RecordedInference
from engine.bundle.array_check import check_ends
from engine.bundle.bundle import Bundle
from engine.config import CounterConfig
from engine.diffusion.latent import TileMaps
from engine.image.tiles import to_input
from engine.model.bundle_network import load_bundle_network
from engine.model.denoiser import TorchDenoiser
from engine.model.layers import channels_last
from engine.system.stopwatch import Stopwatch

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


# Recorded inferences that are kept on a GPU.
_RECORDED = 8


class TorchBackend(Backend):
    """PyTorch on the CPU or a CUDA device, with the bundle's own weights.

    On CUDA it runs the Triton kernels, and replays a CUDA graph for each size, number of steps and of samples, unless
    these are very many.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, config: CounterConfig):
        # Each thread of PyTorch has a device of its own for what names none.
        self.device = {"auto": "cpu", "cuda": "cuda:0"}.get(config.device, config.device)
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise BackendError(
                f"device {config.device!r} was asked for, but PyTorch finds no CUDA device here; use device='cpu'"
            )
        self.compute_type = "float32" if config.compute_type == "default" else config.compute_type
        if self.compute_type not in _TYPES:
            raise BackendError(f"backend 'torch' computes in {', '.join(_TYPES)}, got {config.compute_type!r}")
        if config.cpu_threads:
            torch.set_num_threads(config.cpu_threads)
        self.model = bundle.model
        self._denoiser = TorchDenoiser(channels_last(load_bundle_network(bundle).to(self.device)))
        self._on_gpu = self.device.startswith("cuda")
        # A recorded inference starts from noise, and has its times in it.
        self.starts_warm = not self._on_gpu
        self._coefficients = DeviceCoefficients(self.device)
        self._recorded: OrderedDict[tuple[int, ...], RecordedInference] = OrderedDict()
        self._lock = threading.Lock()
        if self._on_gpu:
            register_triton_kernels()

    def infer(self, image: Any, request: Request, clock: Stopwatch) -> TileMaps:
        if not self._on_gpu or request.steps * request.samples > MAX_RECORDED_CALLS:
            return super().infer(image, request, clock)
        pixels = to_input(image, self.model)
        clock.lap("preprocess")
        key = (*pixels.shape[2:], request.steps, request.samples)
        with self._lock:
            if key not in self._recorded:
                self._recorded[key] = RecordedInference(self, self.device, *key)
            self._recorded.move_to_end(key)
            if len(self._recorded) > _RECORDED:
                self._recorded.popitem(last=False)
            maps = self._recorded[key](pixels, request)
        clock.lap("denoise")
        return maps

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """On a GPU: Triton launches on the backend's own device, and float32 is computed as such."""
        with ExitStack() as settings:
            if self._on_gpu:
                settings.enter_context(torch.cuda.device(self.device))
                if self.compute_type == "float32":
                    settings.enter_context(full_precision())
            yield

    def _autocast(self) -> torch.autocast:
        kind, reduced = self.device.split(":")[0], self.compute_type != "float32"
        dtype = _TYPES[self.compute_type] if reduced else torch.bfloat16
        # A graph must not read what a cache may free: on CUDA the weights are rounded anew each time.
        return torch.autocast(kind, dtype, enabled=reduced, cache_enabled=not self._on_gpu)

    def upload(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)

    def download(self, array: torch.Tensor) -> np.ndarray:
        return np.asarray(array.float().cpu().numpy())

    @torch.inference_mode()
    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._settled(), self._autocast():
            features, density = self._denoiser.network.encoder(image.contiguous(memory_format=torch.channels_last))
        check_ends((image,), (features, density))
        return features, density

    @torch.inference_mode()
    def decode(self, features: torch.Tensor, x_t: torch.Tensor, t: float) -> torch.Tensor:
        with self._settled(), self._autocast():
            x_0 = self._denoiser.decode(features, x_t, t)
        check_ends((features, x_t), (x_0,))
        return x_0

    @torch.inference_mode()
    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        if self._on_gpu:
            from engine.kernels.ddim_update import ddim_update

            with self._settled():
                ddim_update(x_t, x_0.float().contiguous(), estimate, change, self._coefficients[coefficients])
        else:
            self._denoiser.ddim_update(x_t, x_0, estimate, change, coefficients)

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return _core.find_peaks(heatmap, threshold)

    def close(self) -> None:
        # The network is freed with the last thread that counts by it; recorded inferences hold the backend.
        with self._lock:
            self._recorded.clear()
