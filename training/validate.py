"""A quick look at a model in training, on whole held-out pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.config import PADDING, ModelConfig
from engine.images import load_image
from engine.model.network import CrowdNetwork
from engine.training.dataset import Sample
from engine.training.losses import LossConfig
from engine.training.targets import head_map


def to_input(image: np.ndarray, model: ModelConfig) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, H', W'], normalised and zero-padded to multiples of 32."""
    height, width = image.shape[:2]
    padded = np.zeros((-height % PADDING + height, -width % PADDING + width, 3), np.float32)
    padded[:height, :width] = (image / np.float32(255) - model.pixel_mean) / model.pixel_std
    return torch.from_numpy(padded).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def validate(
    network: CrowdNetwork, model: ModelConfig, samples: list[Sample], device: torch.device
) -> dict[str, float]:
    """Scores of ``network``: lower is better.

    Returns:
        ``map``: weighted squared error of the head map from one step at t = 1, averaged over pictures;
        ``density/<part>``: mean absolute error of the encoder's count.
    """
    foreground = LossConfig().foreground
    map_errors: list[float] = []
    count_errors: dict[str, list[float]] = {}
    for sample in samples:
        pixels = to_input(load_image(sample.image), model).to(device)
        heads = torch.from_numpy(
            head_map(sample.points, pixels.shape[2] // model.map_stride, pixels.shape[3] // model.map_stride, model.map_stride)
        ).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            features, density = network.encoder(pixels)
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn((1, model.latent_channels, *features.shape[2:]), generator=generator).to(device)
            x_0 = network.decoder(features, noise, torch.ones(1, device=device))
        heatmap = (network.unfold(x_0)[0, 0] / model.map_scale + 1) / 2
        map_errors.append(float(((1 + foreground * heads) * (heatmap - heads).square()).mean()))
        count_errors.setdefault(sample.part, []).append(abs(float(density.sum()) - len(sample.points)))
    scores = {"map": float(np.mean(map_errors))}
    return scores | {f"density/{part}": float(np.mean(errors)) for part, errors in sorted(count_errors.items())}
