"""The network in PyTorch: the reference that every other backend is compared with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
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
from engine.backends.base import MAX_RECORDED_CALLS, Backend, Work
from engine.backends.torch.network import TYPES, TorchNetwork
from engine.backends.torch.recorded import RecordedInference
from engine.bundle.bundle import Bundle
from engine.config import CounterConfig
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Request, infer
from engine.image.load import load_host_picture, load_image
from engine.image.tiles import HostPicture, to_input
from engine.system.recently_used import RecentlyUsed
from engine.system.stopwatch import Stopwatch

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
        number = int(self.device.partition(":")[2] or 0)
        if self.device.startswith("cuda") and not (torch.cuda.is_available() and number < torch.cuda.device_count()):
            found = torch.cuda.device_count() or "no"
            raise BackendError(
                f"device {config.device!r} was asked for, but PyTorch finds {found} CUDA devices here, numbered "
                "from 0; use device='cpu', or one of them"
            )
        self.compute_type = "float32" if config.compute_type == "default" else config.compute_type
        if self.compute_type not in TYPES:
            raise BackendError(f"backend 'torch' computes in {', '.join(TYPES)}, got {config.compute_type!r}")
        if config.cpu_threads:
            torch.set_num_threads(config.cpu_threads)
        self.model = bundle.model
        self._network = TorchNetwork(bundle, self.device, self.compute_type)
        self._on_gpu = self.device.startswith("cuda")
        # A recorded inference starts from noise, and has its times in it.
        self.starts_warm = not self._on_gpu
        self._recorded: RecentlyUsed[tuple[int, ...], RecordedInference] = RecentlyUsed(_RECORDED)
        self._lock = threading.Lock()

    def load(self, img: Any, color: str, cuda_stream: Any, read: Callable[..., np.ndarray] = load_image) -> HostPicture:
        return load_host_picture(img, color, cuda_stream, f"{self.device} with backend {self.name!r}", read)

    def snapshot(self, img: Any, *, color: str, **options: Any) -> np.ndarray:
        return self.load(img, color, None, partial(load_image, **options)).pixels

    def infer(self, tile: np.ndarray, request: Request, clock: Stopwatch) -> TileMaps:
        if not self._on_gpu or request.steps * request.samples > MAX_RECORDED_CALLS:
            return infer(self._network, tile, request, clock)
        image = to_input(tile, self.model)
        clock.lap("preprocess")
        key = (*image.shape[2:], request.steps, request.samples)
        with self._lock:
            recorded = self._recorded.find(key, lambda: RecordedInference(self._network, *key))
            maps = recorded(image, request)
        clock.lap("denoise")
        return maps

    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        return (self.infer(*one) for one in work)

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return _core.find_peaks(heatmap, threshold)

    def network(self) -> AbstractContextManager[TorchNetwork]:
        return nullcontext(self._network)

    def close(self) -> None:
        # The network is freed with the last thread that counts by it; recorded inferences hold it too.
        with self._lock:
            self._recorded.clear()
