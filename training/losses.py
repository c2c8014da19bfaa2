"""The training loss: denoised head map, and the encoder's block counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.diffusion.sampler import alpha_sigma, ddim_steps
from engine.model.decoder import Decoder
from engine.model.network import CrowdNetwork
from engine.model.rate import BinnedCounts, BinnedRate
from engine.training.augment import COUNT_STRIDE
from engine.training.checks import check_finite, check_not_negative, check_shares

# Side in pixels of the regions whose heads are counted; crops are whole numbers of them.
REGION = 64
# Longest sampling whose later steps self-alignment trains.
_LONGEST_SAMPLING = 4


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss.

    Attributes:
        map_weight: of the squared error of the head map; without it the decoder does not run.
        foreground: extra weight of cells near a head; a cell of height m counts 1 + foreground * m.
        block_weight: of the Poisson likelihood of the heads in 16x16 blocks; of binned counts, of the zero-inflated
            one, and of the class of each block that is not empty.
        region_weight: of the Poisson likelihood of the heads in 64x64 regions and in the whole crop.
        scale_weight: of the absolute errors of the heads in squares of 16, 32 and 64 pixels (a quarter, half and all of
            it) and of the whole crop, each summed over the crop and divided by its number of blocks.
        pure_noise: share of samples trained at t = 1, where inference starts.
        self_aligned: share of the others whose noisy map is what the sampler would have there, made of the decoder's
            own estimate at t = 1. The rest have the true map, which no sampler sees, under noise.
    """

    map_weight: float = 20.0
    foreground: float = 9.0
    block_weight: float = 1.0
    region_weight: float = 1.0
    scale_weight: float = 0.0
    pure_noise: float = 0.5
    self_aligned: float = 0.0

    def __post_init__(self) -> None:
        check_finite(self)
        check_not_negative(self, "map_weight", "foreground", "block_weight", "region_weight", "scale_weight")
        check_shares(self, "pure_noise", "self_aligned")


@dataclass(frozen=True)
class Levels:
    """Where in the diffusion each sample of a batch is.

    Attributes:
        times: float64 [B], what the decoder is told.
        alpha, sigma: float64 [B], shares of the map and of the noise in its input.
        own: bool [B]; the map is the decoder's own estimate, not the true one.
    """

    times: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    own: np.ndarray


def draw_levels(batch: int, config: LossConfig, rng: np.random.Generator) -> Levels:
    """t is 1 with probability ``pure_noise``, else uniform in [0, 0.999) (DDP), or that of a sampler's later step."""
    times = np.where(rng.random(batch) < config.pure_noise, 1.0, rng.random(batch) * 0.999)
    alpha, sigma = alpha_sigma(times)
    own = (rng.random(batch) < config.self_aligned) & (times < 1)
    for sample in np.flatnonzero(own):
        steps = ddim_steps(int(rng.integers(2, _LONGEST_SAMPLING + 1)))
        step = rng.integers(1, len(steps))
        times[sample] = steps[step].t
        alpha[sample], sigma[sample] = steps[step - 1].alpha_next, steps[step - 1].sigma_next
    return Levels(times, alpha, sigma, own)


def noisy_maps(decoder: Decoder, features: Tensor, maps: Tensor, levels: Levels, noise: Tensor) -> Tensor:
    """The decoder's input x_t [B, L, h, w]: true ``maps``, or its own estimates of them, under noise.

    Source: self-aligned denoising of DDP (ICCV 2023), on the times and with the noise of the DDIM sampler.

    Args:
        features: [B, F, h, w].
        maps: true latents, -b .. b.
        noise: standard normal; of these shapes, as is the result.
    """
    if levels.own.any():
        training = decoder.training
        decoder.eval()  # As the sampler calls it, and batch norms do not count this pass.
        with torch.no_grad():
            estimates = decoder(features, noise, noise.new_ones(len(noise)))
        decoder.train(training)
        estimates = estimates.clamp(-decoder.map_scale, decoder.map_scale)
        maps = torch.where(_per_sample(levels.own, noise) > 0, estimates, maps)
    return _per_sample(levels.alpha, noise) * maps + _per_sample(levels.sigma, noise) * noise


def _per_sample(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like)[:, None, None, None]


def crowd_loss(
    network: CrowdNetwork,
    config: LossConfig,
    pixels: Tensor,
    heads: Tensor,
    counts: Tensor,
    levels: Levels,
    noise: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one batch, and its parts for the log, still on the device: reading one waits for all before it.

    Args:
        pixels: [B, 3, S, S], normalised.
        heads: head maps [B, S/2, S/2] in [0, 1].
        counts: heads per 16x16 block [B, S/16, S/16].
        levels: of the B samples.
        noise: standard normal, of the latent's shape [B, L, S/8, S/8].
    """
    features, encoded = network.encoder(pixels, raw=True)
    if isinstance(network.encoder.rate, BinnedRate):
        binned = network.encoder.rate.counts(encoded)
        rate = binned.expected()[:, 0] + 1e-4  # heads per 16x16 block
        block_loss = binned_loss(binned, counts)
    else:
        rate = 4 * F.avg_pool2d(encoded, 2)[:, 0] + 1e-4
        block_loss = _poisson(rate, counts, 1)
    # An absolute error would pull sparse regions to their median, far below their mean: part B lost 10 % to it.
    region_loss = _poisson(rate, counts, REGION // COUNT_STRIDE) + _poisson(rate, counts, rate.shape[-1])
    total = config.block_weight * block_loss + config.region_weight * region_loss
    parts = {"block": block_loss, "region": region_loss}
    if config.map_weight:
        parts["map"] = _map_loss(network, config, features, heads, levels, noise)
        total = total + config.map_weight * parts["map"]
    if config.scale_weight:
        parts["scale"] = scale_loss(rate, counts)
        total = total + config.scale_weight * parts["scale"]
    parts["total"] = total
    return total, {name: value.detach() for name, value in parts.items()}


def _map_loss(
    network: CrowdNetwork, config: LossConfig, features: Tensor, heads: Tensor, levels: Levels, noise: Tensor
) -> Tensor:
    scale = network.config.map_scale
    clean = network.fold(heads[:, None])  # [B, L, h, w]
    maps = (2 * clean - 1) * scale
    x_t = noisy_maps(network.decoder, features, maps, levels, noise)
    x_0 = network.decoder(features, x_t, torch.from_numpy(levels.times).to(noise))
    # In units of the head map, so that the weights do not depend on its scale.
    error = (x_0 - maps) / (2 * scale)
    return ((1 + config.foreground * clean) * error.square()).mean()


def binned_loss(predicted: BinnedCounts, counts: Tensor) -> Tensor:
    """Negative log likelihood of ``counts`` [B, h, w] under a zero-inflated Poisson, plus the cross-entropy of classes.

    Both are means over all blocks; empty ones have no class. A count belongs to the class with the nearest centre.

    Source: ZIP (2025), equations of its likelihood and of its blockwise classification.
    """
    gate, rate = predicted.gate[:, 0], predicted.rate()[:, 0]
    # Either the block cannot hold heads, or it can and holds none by chance.
    empty = -torch.logaddexp(F.logsigmoid(-gate), F.logsigmoid(gate) - rate)
    some = -F.logsigmoid(gate) + rate - counts * rate.log()
    likelihood = torch.where(counts > 0, some, empty).mean()
    classes = (counts[:, None] - predicted.centres[:, None, None]).abs().argmin(dim=1)
    entropy = F.cross_entropy(predicted.bins, classes, reduction="none")
    return likelihood + (entropy * (counts > 0)).mean()


def scale_loss(rate: Tensor, counts: Tensor) -> Tensor:
    """Absolute errors of the heads in squares of several sizes (ZIP, 2025); ``rate`` and ``counts`` are [B, h, w]."""
    error = rate - counts
    squares = [(F.avg_pool2d(error, size) * size**2).abs().sum((1, 2)) for size in (1, 2, 4)]
    weighted = 0.25 * squares[0] + 0.5 * squares[1] + squares[2] + error.sum((1, 2)).abs()
    return (weighted / rate[0].numel()).mean()


def _poisson(rate: Tensor, counts: Tensor, size: int) -> Tensor:
    """Negative log likelihood of the counts in squares of ``size`` x ``size`` blocks, per block."""
    rates, heads = F.avg_pool2d(rate, size), F.avg_pool2d(counts, size)
    return (rates - heads * (size**2 * rates).log()).mean()
