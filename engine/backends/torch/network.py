"""The network in PyTorch, on the CPU or a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from engine.backends.torch.kernels import DeviceCoefficients, register_triton_kernels
from engine.backends.torch.precision import full_precision
from engine.bundle.array_check import check_ends
from engine.bundle.bundle import Bundle
from engine.image.tiles import to_input
from engine.model.bundle_network import load_bundle_network
from engine.model.denoiser import TorchDenoiser
from engine.model.layers import channels_last

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchNetwork:
    """A :class:`engine.diffusion.sampler.Network` with the bundle's own weights; threads may share it.

    Args:
        device: "cpu" or "cuda:N", where it runs the Triton kernels.
        compute_type: a key of :data:`TYPES`.

    Attributes:
        model: shape of the network.

    Raises:
        BackendError: there is no Triton for a GPU.
    """

    def __init__(self, bundle: Bundle, device: str, compute_type: str):
        self.model, self.device, self._compute_type = bundle.model, device, compute_type
        self._denoiser = TorchDenoiser(channels_last(load_bundle_network(bundle).to(device)))
        self._on_gpu = device.startswith("cuda")
        self._coefficients = DeviceCoefficients(device)
        if self._on_gpu:
            register_triton_kernels()

    def prepare(self, tile: np.ndarray) -> torch.Tensor:
        """As of the contract."""
        return self.upload(to_input(tile, self.model))

    @torch.inference_mode()
    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As of the contract."""
        with self._settled(), self._autocast():
            outputs = self._denoiser.network.encoder(image.contiguous(memory_format=torch.channels_last))
        check_ends((image,), outputs)
        return outputs

    @torch.inference_mode()
    def decode(self, features: torch.Tensor, x_t: torch.Tensor, t: float) -> torch.Tensor:
        """As of the contract."""
        with self._settled(), self._autocast():
            x_0 = self._denoiser.decode(features, x_t, t)
        check_ends((features, x_t), (x_0,))
        return x_0

    @torch.inference_mode()
    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        """As of the contract."""
        if self._on_gpu:
            from engine.kernels.ddim_update import ddim_update

            with self._settled():
                ddim_update(x_t, x_0.float().contiguous(), estimate, change, self._coefficients[coefficients])
        else:
            self._denoiser.ddim_update(x_t, x_0, estimate, change, coefficients)

    def upload(self, array: np.ndarray) -> torch.Tensor:
        """As of the contract."""
        return torch.tensor(array, dtype=torch.float32, device=self.device)

    def download(self, array: torch.Tensor) -> np.ndarray:
        """As of the contract."""
        return np.asarray(array.float().cpu().numpy())

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """On a GPU: Triton launches on the network's own device, and float32 is computed as such."""
        with ExitStack() as settings:
            if self._on_gpu:
                settings.enter_context(torch.cuda.device(self.device))
                if self._compute_type == "float32":
                    settings.enter_context(full_precision())
            yield

    def _autocast(self) -> torch.autocast:
        kind, reduced = self.device.split(":")[0], self._compute_type != "float32"
        dtype = TYPES[self._compute_type] if reduced else torch.bfloat16
        # A graph must not read what a cache may free: on CUDA the weights are rounded anew each time.
        return torch.autocast(kind, dtype, enabled=reduced, cache_enabled=not self._on_gpu)
