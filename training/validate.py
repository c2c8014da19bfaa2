"""A quick look at a model in training, on whole held-out pictures."""

from __future__ import annotations

import numpy as np
import torch

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.diffusion.head_map import head_map
from engine.diffusion.sampler import initial_noise
from engine.image.load import load_image
from engine.image.tiles import to_input
from engine.model.network import CrowdNetwork
from engine.model.precision import mixed_precision
from engine.training.losses import LossConfig


@torch.inference_mode()
def validate(
    network: CrowdNetwork, model: ModelConfig, samples: list[Sample], device: torch.device
) -> dict[str, float]:
    """Scores of ``network``: lower is better.

    Returns:
        ``map``: weighted squared error of the head map from one step at t = 1, averaged over pictures;
        ``rate/<part>``: mean absolute error of the encoder's count; ``ratio/<part>``: its sum over the true one;
        ``score``: ``map`` times the mean of the parts' count errors, each relative to the part's mean count (at
        least 1). Weights are chosen by it: the map alone improves long after the counts have begun to over-fit.
    """
    foreground = LossConfig().foreground
    map_errors: list[float] = []
    expected: dict[str, list[float]] = {}
    true: dict[str, list[int]] = {}
    for sample in samples:
        pixels = torch.from_numpy(to_input(load_image(sample.image), model)).to(device)
        height, width = (side // model.map_stride for side in pixels.shape[2:])
        heads = torch.from_numpy(head_map(sample.points, height, width, model.map_stride)).to(device)
        with mixed_precision(device):
            features, rate, _ = network.encoder(pixels)
            noise = torch.tensor(initial_noise(0, (1, model.latent_channels, *features.shape[2:]), 0), device=device)
            x_0 = network.decoder(features, noise, torch.ones(1, device=device))
        heatmap = (network.unfold(x_0)[0, 0] / model.map_scale + 1) / 2
        map_errors.append(float(((1 + foreground * heads) * (heatmap - heads).square()).mean()))
        expected.setdefault(sample.part, []).append(float(rate.sum()))
        true.setdefault(sample.part, []).append(len(sample.points))
    scores: dict[str, float] = {}
    relative = []
    for part in sorted(true):
        # Parts of empty pictures alone have no mean to compare with.
        mean = max(float(np.mean(true[part])), 1.0)
        mae = float(np.abs(np.subtract(expected[part], true[part])).mean())
        scores |= {f"rate/{part}": mae, f"ratio/{part}": float(np.mean(expected[part])) / mean}
        relative.append(mae / mean)
    error = float(np.mean(map_errors))
    return {"score": error * float(np.mean(relative)), "map": error} | scores
