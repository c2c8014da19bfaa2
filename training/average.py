"""The mean of several checkpoints' weights, which often counts better than each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from engine.errors import ConfigError
from engine.model.checkpoint import load_network
from engine.model.layers import channels_last
from engine.model.network import CrowdNetwork
from engine.training.batches import Batches
from engine.training.losses import LossConfig, draw_levels, noisy_maps

# Batches that the statistics of the batch norms are taken from.
_BATCHES = 40


def average_weights(checkpoints: Sequence[Path]) -> CrowdNetwork:
    """The network whose weights are the mean of those of ``checkpoints``; :func:`fit_norms` is to follow.

    Source: "Model soups", ICML 2022. It holds for checkpoints of one run, or of runs from the same weights.

    Raises:
        ConfigError: one of them does not exist, or their networks have different settings.
    """
    networks = [load_network(path) for path in checkpoints]
    first = networks[0]
    for path, network in zip(checkpoints, networks, strict=True):
        if network.config != first.config:
            raise ConfigError(f"{path} is of another network than {checkpoints[0]}")
    states = [network.state_dict() for network in networks]
    first.load_state_dict({name: _mean([state[name] for state in states]) for name in states[0]})
    return first


def fit_norms(network: CrowdNetwork, batches: Batches, config: LossConfig, seed: int = 0) -> None:
    """Take the statistics of the batch norms anew, from crops at the times that training draws.

    Those of a mean of weights are not the mean of the statistics.
    """
    channels_last(network).train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            # The mean over all batches.
            layer.momentum = None
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for number in range(_BATCHES):
            pixels, heads, _ = (x.cpu() for x in batches.make(number))
            maps = (2 * network.fold(heads[:, None]) - 1) * network.config.map_scale
            levels = draw_levels(len(pixels), config, rng)
            noise = torch.randn(maps.shape, generator=generator)
            features, _ = network.encoder(pixels)
            x_t = noisy_maps(network.decoder, features, maps, levels, noise)
            network.decoder(features, x_t, torch.from_numpy(levels.times).float())
    network.eval()


def _mean(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if not tensors[0].is_floating_point():
        return tensors[-1]
    return torch.stack([x.double() for x in tensors]).mean(dim=0).to(tensors[0].dtype)
