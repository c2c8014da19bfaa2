"""A small network to train, pictures to train it on, and all weights of its run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.config import ModelConfig
from engine.training.train import TrainingRun

MODEL = ModelConfig(
    widths=(8, 8, 8, 16, 16),
    depths=(0, 1, 1, 1, 1),
    features=16,
    attention_dim=8,
    decoder_width=16,
    decoder_blocks=2,
    crop_size=64,
)


def weights(run: TrainingRun) -> dict[str, torch.Tensor]:
    state = {f"network.{k}": v for k, v in run.network.state_dict().items()}
    return state | {f"average.{k}": v for k, v in run.average.state_dict().items()}


def make_pictures(folder: Path, number: int) -> dict[str, list[list[float]]]:
    """Dark pictures of 64x64 with a bright block on each of 1 to 8 heads; their points by name."""
    (folder / "images").mkdir(parents=True)
    points = {}
    for index in range(number):
        rng = np.random.default_rng(index)
        cells = rng.permutation(16)[: 1 + index % 8]
        heads = np.stack([cells % 4, cells // 4], axis=1) * 16.0 + 8
        pixels = rng.integers(0, 40, (64, 64, 3), np.uint8)
        for x, y in heads.astype(int):
            pixels[y - 3 : y + 4, x - 3 : x + 4] = 240
        points[f"p{index:02}.png"] = heads.tolist()
        Image.fromarray(pixels).save(folder / "images" / f"p{index:02}.png")
    (folder / "points.json").write_text(json.dumps(points))
    return points
