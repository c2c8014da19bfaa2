"""A quick look at a model in training, on whole held-out pictures."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.dataset.samples import Sample
from engine.diffusion.head_map import head_map
from engine.diffusion.sampler import initial_noise
from engine.image.load import load_image
from engine.image.tiles import HostPicture, Tile, padded_shape, plan_tiles, to_input
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
        picture = HostPicture(load_image(sample.image))
        height, width = picture.shape[:2]
        rows, columns = (side // model.map_stride for side in padded_shape(height, width)[2:])
        truth = torch.from_numpy(head_map(sample.points, rows, columns, model.map_stride)).to(device)
        error, people = 0.0, 0.0
        # As pictures are counted: a large one in tiles, which take less memory.
        for tile in plan_tiles(height, width):
            heatmap, rate = _look(network, model, picture, tile, device)
            heads = truth[_core(tile, picture, model.map_stride, of_picture=True)]
            squares = (1 + foreground * heads) * (heatmap - heads).square()
            error += float(squares.mean()) * (squares.numel() / truth.numel())
            people += float(rate.sum())
        map_errors.append(error)
        expected.setdefault(sample.part, []).append(people)
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


def _look(
    network: CrowdNetwork, model: ModelConfig, picture: HostPicture, tile: Tile, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The head map of one step at t = 1, and the encoder's rate, of the cells that a tile owns."""
    pixels = torch.from_numpy(to_input(picture.crop(tile), model)).to(device)
    with mixed_precision(device):
        features, rate, _ = network.encoder(pixels)
        noise = torch.tensor(initial_noise(0, (1, model.latent_channels, *features.shape[2:]), 0), device=device)
        x_0 = network.decoder(features, noise, torch.ones(1, device=device))
    heatmap = (network.unfold(x_0)[0, 0] / model.map_scale + 1) / 2
    return heatmap[_core(tile, picture, model.map_stride)], rate[0, 0][_core(tile, picture, FEATURE_STRIDE)]


def _core(tile: Tile, picture: HostPicture, stride: int, of_picture: bool = False) -> tuple[slice, slice]:
    """The cells that a tile owns, with those of the padding at the picture's right and lower border.

    They are counted from the tile's own corner, or from that of the picture.
    """
    height, width = picture.shape[:2]
    top, left = (0, 0) if of_picture else (tile.top, tile.left)
    bottom = None if tile.core_bottom == height else (tile.core_bottom - top) // stride
    right = None if tile.core_right == width else (tile.core_right - left) // stride
    return slice((tile.core_top - top) // stride, bottom), slice((tile.core_left - left) // stride, right)
