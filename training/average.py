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
from engine.training.losses import LossConfig, draw_levels, noisy_maps

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
    step = _TrainingPass(channels_last(network), config, seed).train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # The mean over all batches.
    with torch.no_grad():
        for number in range(_BATCHES):
            pixels, heads, counts = (x.cpu() for x in batches.make(number))
            step((pixels, heads, counts))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


class _TrainingPass(nn.Module):
    """The network on a batch as in a training step, without the loss."""

    def __init__(self, network: CrowdNetwork, config: LossConfig, seed: int):
        super().__init__()
        self.network, self._config = network, config
        self._rng, self._generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def forward(self, batch: tuple[Tensor, Tensor, Tensor]) -> None:
        pixels, heads, _ = batch
        maps = (2 * self.network.fold(heads[:, None]) - 1) * self.network.config.map_scale
        levels = draw_levels(len(pixels), self._config, self._rng)
        noise = torch.randn(maps.shape, generator=self._generator)
        with mixed_precision("cpu"):
            features, *_ = self.network.encoder(pixels)
            x_t = noisy_maps(self.network.decoder, features, maps, levels, noise)
            self.network.decoder(features, x_t, torch.from_numpy(levels.times).float())
