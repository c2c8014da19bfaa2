"""The mean of several checkpoints' weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from engine.errors import ConfigError
from engine.model.checkpoint import load_network
from engine.model.layers import channels_last
from engine.model.network import CrowdNetwork
from engine.model.precision import mixed_precision
from engine.training.batches import Batches
from engine.training.losses import Levels, LossConfig, draw_levels, noisy_maps

# Batches that the statistics of the batch norms are taken from.
_BATCHES = 40


def average_weights(checkpoints: Sequence[Path]) -> CrowdNetwork:
    """The network whose weights are the mean of those of ``checkpoints``; :func:`fit_norms` is to follow.

    Source: "Model soups", ICML 2022. It is of use for checkpoints of one run, or of runs from the same weights.

    Raises:
        ConfigError: one of them does not exist, or their networks have different settings.
    """
    networks = [load_network(path) for path in checkpoints]
    mean = AveragedModel(networks[0])
    for path, network in zip(checkpoints, networks, strict=True):
        if network.config != networks[0].config:
            raise ConfigError(f"{path} is of another network than {checkpoints[0]}")
        mean.update_parameters(network)
    assert isinstance(mean.module, CrowdNetwork)
    return mean.module


def fit_norms(network: CrowdNetwork, batches: Batches, config: LossConfig, seed: int = 0) -> None:
    """Take the statistics of the batch norms anew, from crops at the times that training draws.

    Those of a mean of weights are not the mean of the statistics. A pre-trained trunk keeps its own, as in training.
    """
    channels_last(network).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # The mean over all batches.
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    for number in range(_BATCHES):
        pixels, heads, _ = (x.cpu() for x in batches.make(number))
        _pass(network, pixels, heads, draw_levels(len(pixels), config, rng), generator)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


@torch.no_grad()
def _pass(network: CrowdNetwork, pixels: Tensor, heads: Tensor, levels: Levels, generator: torch.Generator) -> None:
    """Run the network on a batch as in a training step, without the loss."""
    maps = (2 * network.fold(heads[:, None]) - 1) * network.config.map_scale
    noise = torch.randn(maps.shape, generator=generator)
    with mixed_precision("cpu"):
        features, *_ = network.encoder(pixels)
        x_t = noisy_maps(network.decoder, features, maps, levels, noise)
        network.decoder(features, x_t, torch.from_numpy(levels.times).float())
