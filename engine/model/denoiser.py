"""The network as the sampler sees it: PyTorch's decode step and DDIM update."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.model.network import CrowdNetwork


class TorchDenoiser:
    """Runs the denoising loop's two halves on PyTorch tensors."""

    def __init__(self, network: CrowdNetwork):
        self.network = network

    def decode(self, features: Tensor, x_t: Tensor, t: float) -> Tensor:
        """Features [B, F, h, w], noisy latent [B, L, h, w] and time -> estimate of the clean latent."""
        times = torch.full((len(x_t),), t, device=x_t.device)
        x_0: Tensor = self.network.decoder(features, x_t, times)
        return x_0

    def ddim_update(
        self, x_t: Tensor, x_0: Tensor, estimate: Tensor, change: Tensor, coefficients: tuple[float, ...]
    ) -> None:
        """The kernel ``ddim_update``, in place in ``x_t``, ``estimate`` and ``change``."""
        alpha, sigma, alpha_next, sigma_next, limit, change_weight = coefficients
        new = x_0.clamp(-limit, limit)
        noise = (x_t - alpha * new) / max(sigma, 1e-8)
        x_t.copy_(alpha_next * new + sigma_next * noise)
        change.add_((new - estimate).abs(), alpha=change_weight)
        estimate.copy_(new)
