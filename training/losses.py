"""The training loss: denoised head map, and the encoder's block counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.model.network import CrowdNetwork
from engine.schedule import alpha_sigma


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss.

    Attributes:
        map_weight: of the squared error of the head map.
        foreground: extra weight of cells near a head; a cell of height m counts 1 + foreground * m.
        block_weight: of the Poisson likelihood of the heads in 16x16 blocks.
        region_weight: of the same likelihood of the heads in 64x64 regions and in the whole crop.
        pure_noise: share of samples trained at t = 1, where inference starts.
    """

    map_weight: float = 20.0
    foreground: float = 9.0
    block_weight: float = 1.0
    region_weight: float = 1.0
    pure_noise: float = 0.5


def draw_times(batch: int, config: LossConfig, rng: np.random.Generator) -> np.ndarray:
    """Diffusion times [batch]: 1 with probability ``pure_noise``, else uniform in [0, 0.999) (DDP)."""
    return np.where(rng.random(batch) < config.pure_noise, 1.0, rng.random(batch) * 0.999)


def crowd_loss(
    network: CrowdNetwork,
    model: ModelConfig,
    config: LossConfig,
    pixels: Tensor,
    heads: Tensor,
    counts: Tensor,
    times: np.ndarray,
    noise: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch, and its parts for the log, still on the device: reading one waits for all before it.

    Args:
        pixels: [B, 3, S, S], normalised.
        heads: head maps [B, S/2, S/2] in [0, 1].
        counts: heads per 16x16 block [B, S/16, S/16].
        times: float64 [B].
        noise: standard normal, of the latent's shape [B, L, S/8, S/8].
    """
    clean = network.fold(heads[:, None])  # [B, L, h, w]
    alpha, sigma = (torch.from_numpy(x).to(noise)[:, None, None, None] for x in alpha_sigma(times))
    x_t = alpha * (2 * clean - 1) * model.map_scale + sigma * noise
    features, density = network.encoder(pixels)
    x_0 = network.decoder(features, x_t, torch.from_numpy(times).to(noise))

    # Both in units of the head map, so that the weights do not depend on its scale.
    error = (x_0 - (2 * clean - 1) * model.map_scale) / (2 * model.map_scale)
    map_loss = ((1 + config.foreground * clean) * error.square()).mean()
    rate = 4 * F.avg_pool2d(density, 2)[:, 0] + 1e-4  # heads per 16x16 block
    block_loss = _poisson(rate, counts, 1)
    # An absolute error would pull sparse regions to their median, far below their mean: part B lost 10 % to it.
    region_loss = _poisson(rate, counts, 4) + _poisson(rate, counts, rate.shape[-1])
    total = config.map_weight * map_loss + config.block_weight * block_loss + config.region_weight * region_loss
    parts = {"map": map_loss, "block": block_loss, "region": region_loss}
    return total, {name: value.detach() for name, value in parts.items()}


def _poisson(rate: Tensor, counts: Tensor, size: int) -> Tensor:
    """Negative log likelihood of the counts in squares of ``size`` x ``size`` blocks, per block."""
    rates, heads = F.avg_pool2d(rate, size), F.avg_pool2d(counts, size)
    return (rates - heads * (size**2 * rates).log()).mean()
