"""The interface of a backend, and the registry that finds them by name."""

from __future__ import annotations

import importlib
import logging
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from engine.bundle import Bundle
from engine.config import FEATURE_STRIDE, CounterConfig, ModelConfig
from engine.errors import BackendError
from engine.maps import TileMaps, head_maps
from engine.preprocess import to_input
from engine.sampler import Latents, denoise, initial_noise
from engine.stopwatch import Stopwatch

_log = logging.getLogger("engine")

# Name -> (module, class). Modules are imported on first use: each needs its own runtime.
_REGISTRY = {
    "openvino": ("engine.backends.openvino", "OpenVINOBackend"),
    "torch": ("engine.backends.torch", "TorchBackend"),
}


class Backend(ABC):
    """Runs one bundle on one device.

    Arrays between its methods are the backend's own; ``upload`` and ``download`` cross over. All
    methods may be called from several threads at once; what ``encode`` and ``decode`` return stays
    valid until the same thread calls them again.

    Attributes:
        name: as in the registry.
        device: what it runs on, for the user.
        compute_type: the type it computes in, after "default" was resolved.
        model: shape of the network.
    """

    name: str
    device: str
    compute_type: str
    model: ModelConfig

    @abstractmethod
    def upload(self, array: np.ndarray) -> Any:
        """A writable float32 array of the backend with the contents of ``array``."""

    @abstractmethod
    def download(self, array: Any) -> np.ndarray:
        """The contents as a NumPy array of the host; may share memory."""

    @abstractmethod
    def encode(self, image: Any) -> tuple[Any, Any]:
        """Normalised image [1, 3, H, W] -> features [1, F, H/8, W/8], density [1, 1, H/8, W/8]."""

    @abstractmethod
    def decode(self, features: Any, x_t: Any, t: float) -> Any:
        """Features, noisy latent [1, L, H/8, W/8] and time -> estimate x_0 of the clean latent."""

    @abstractmethod
    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        """The kernel ``ddim_update``, in place in ``x_t``, ``estimate`` and ``change``."""

    @abstractmethod
    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """The kernel ``find_peaks`` on a host map [h, w]: points [N, 2] in cells and scores [N]."""

    def infer(self, image: np.ndarray, steps: int, samples: int, seed: int, clock: Stopwatch) -> TileMaps:
        """Run the whole network on one tile: encode once, denoise ``samples`` times.

        Args:
            image: uint8 [H, W, 3], RGB.
            clock: gets the laps "preprocess", "encode" and "denoise".
        """
        pixels = to_input(image, self.model)
        clock.lap("preprocess")
        features, density = self.encode(self.upload(pixels))
        clock.lap("encode")
        shape = (1, self.model.latent_channels, pixels.shape[2] // FEATURE_STRIDE, pixels.shape[3] // FEATURE_STRIDE)
        estimates, changes = [], []
        for sample in range(samples):
            noise, still = initial_noise(seed, shape, sample), np.zeros(shape, np.float32)
            latents = Latents(self.upload(noise), self.upload(still), self.upload(still))
            denoise(self, features, latents, steps, self.model.map_scale)
            estimates.append(self.download(latents.estimate))
            changes.append(self.download(latents.change))
        maps = TileMaps(*head_maps(estimates, changes, self.model), self.download(density)[0, 0])
        clock.lap("denoise")
        return maps

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds; it cannot be used afterwards."""


def create_backend(bundle: Bundle, config: CounterConfig) -> Backend:
    """The backend that ``config`` asks for; "auto" picks one for the device and logs it.

    Raises:
        BackendError: its runtime or its device is not there.
    """
    name = resolve_backend(config)
    if "auto" in (config.backend, config.device):
        _log.info("device %r and backend %r resolved to backend %r", config.device, config.backend, name)
    module, attribute = _REGISTRY[name]
    backend: Backend = getattr(importlib.import_module(module), attribute)(bundle, config)
    return backend


def resolve_backend(config: CounterConfig) -> str:
    """Name of the backend that ``config`` leads to, without loading it."""
    on_gpu = config.device.startswith("cuda")
    if config.backend == "tensorrt" or (on_gpu and config.backend == "auto"):
        raise BackendError(
            "the TensorRT backend is not part of this version; use device='cpu', or backend='torch' for CUDA"
        )
    if config.backend == "openvino" and on_gpu:
        raise BackendError(f"backend 'openvino' runs on the CPU, got device={config.device!r}; use device='cpu'")
    return "openvino" if config.backend == "auto" else config.backend
