"""Settings of a run that cannot be are refused where they are made, by their name."""

from __future__ import annotations

import math

import pytest

from engine.config import ModelConfig
from engine.errors import ConfigError
from engine.training.config import AugmentConfig, LossConfig, TrainConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": 0}, {"minutes": math.nan}, {"iterations": -1}, {"batch": 0}, {"learning_rate": -1},
        {"learning_rate": math.nan}, {"weight_decay": math.inf}, {"warmup": -1}, {"warmup": 1.5}, {"frozen": -0.1},
        {"ema": 1.0}, {"seed": -1}, {"late_crop": -64},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(**wrong)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (AugmentConfig, {"scale": (2.0, 1.0)}),
        (AugmentConfig, {"scale": (0.0, 1.0)}),
        (AugmentConfig, {"gamma": (0.0, 1.0)}),
        (AugmentConfig, {"contrast": (-1.0, 1.0)}),
        (AugmentConfig, {"negatives": 2.0}),
        (AugmentConfig, {"overhang": math.inf}),
        (LossConfig, {"pure_noise": -1.0}),
        (LossConfig, {"map_weight": math.nan}),
        (LossConfig, {"region_weight": -1.0}),
        (ModelConfig, {"map_stride": 3}),
        (ModelConfig, {"map_stride": 16}),
        (ModelConfig, {"stem_kernel": 4}),
        (ModelConfig, {"features": 0}),
        (ModelConfig, {"widths": (8, 8, 0, 8, 8)}),
        (ModelConfig, {"depths": (0, 0, 0, 0, -1)}),
        (ModelConfig, {"pixel_std": 0.0}),
        (ModelConfig, {"pixel_mean": math.nan}),
    ],
    ids=str,
)
def test_settings_of_crops_loss_and_network_that_cannot_be_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kind(**wrong)
