"""A small network to train, and all weights of its run."""

from __future__ import annotations

import torch

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
