"""The network in PyTorch: the reference that every other backend is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.errors import BackendError

try:
    import torch
    from safetensors.torch import load_file
except ImportError as error:
    raise BackendError("backend 'torch' needs PyTorch: pip install 'crowd-engine[train]'") from error

from engine import _core
from engine.backends.base import Backend
from engine.bundle import WEIGHTS_FILE, Bundle
from engine.config import CounterConfig
from engine.model.denoiser import TorchDenoiser
from engine.model.layers import channels_last, fold_norms
from engine.model.network import CrowdNetwork

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchBackend(Backend):
    """Eager PyTorch on the CPU or a CUDA device, with the bundle's own weights."""

    name = "torch"

    def __init__(self, bundle: Bundle, config: CounterConfig):
        self.device = "cpu" if config.device == "auto" else config.device
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise BackendError(f"device {self.device!r} was asked for, but PyTorch finds no CUDA device here")
        self.compute_type = "float32" if config.compute_type == "default" else config.compute_type
        if self.compute_type not in _TYPES:
            raise BackendError(f"backend 'torch' computes in {', '.join(_TYPES)}, got {config.compute_type!r}")
        if config.cpu_threads:
            torch.set_num_threads(config.cpu_threads)
        self.model = bundle.model
        network = fold_norms(CrowdNetwork(bundle.model))
        weights = load_file(bundle.path / WEIGHTS_FILE)
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        self._denoiser = TorchDenoiser(channels_last(network.to(self.device)))

    def _autocast(self) -> torch.autocast:
        kind, reduced = self.device.split(":")[0], self.compute_type != "float32"
        return torch.autocast(kind, _TYPES[self.compute_type] if reduced else torch.bfloat16, enabled=reduced)

    def upload(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)

    def download(self, array: torch.Tensor) -> np.ndarray:
        return np.asarray(array.float().cpu().numpy())

    @torch.inference_mode()
    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with self._autocast():
            features, density = self._denoiser.network.encoder(image.contiguous(memory_format=torch.channels_last))
        return features, density

    @torch.inference_mode()
    def decode(self, features: torch.Tensor, x_t: torch.Tensor, t: float) -> torch.Tensor:
        with self._autocast():
            return self._denoiser.decode(features, x_t, t)

    @torch.inference_mode()
    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        self._denoiser.ddim_update(x_t, x_0, estimate, change, coefficients)

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return _core.find_peaks(heatmap, threshold)

    def close(self) -> None:
        del self._denoiser
