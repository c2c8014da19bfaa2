"""Batches made on a device against those that Pillow makes on the CPU."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.training.augment import AugmentConfig
from engine.training.batches import CrowdBatches
from engine.training.config import TrainConfig
from engine.training.device_batches import DeviceBatches
from engine.training.train import TrainingRun, make_batches

MODEL = ModelConfig(crop_size=64)
COLOURS = AugmentConfig(negatives=0)
PLAIN = AugmentConfig(contrast=(1, 1), gamma=(1, 1), channel_gain=(1, 1), brightness=0, grey=0, negatives=0)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    """Noise of several grains with heads up to the border; some pictures are smaller than a crop."""
    made, rng = [], np.random.default_rng(0)
    for number, (height, width) in enumerate([(150, 211), (40, 97), (64, 64), (300, 33), (5, 5)]):
        coarse = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3)).repeat(5, 0).repeat(5, 1)
        pixels = (0.7 * coarse[:height, :width] + 0.3 * rng.integers(0, 256, (height, width, 3))).astype(np.uint8)
        path = tmp_path_factory.mktemp("pictures") / f"{number}.png"
        Image.fromarray(pixels).save(path)
        points = (rng.random((20 * number, 2)) * [width, height]).astype(np.float32)
        made.append(Sample(path, points, f"part_{number % 2}"))
    return made


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [(1, 1), (0.4, 0.7), (0.6, 1.7), (2, 3)])
def test_pixels_are_those_of_pillow_within_a_level(samples, scale, device):
    augment = dataclasses.replace(PLAIN, scale=scale)
    level = 1 / 255 / MODEL.pixel_std
    for number in range(5):
        expected, _, _ = CrowdBatches(samples, MODEL, augment, 12, seed=3).make(number)
        pixels = DeviceBatches(samples, MODEL, augment, 12, seed=3, device=device).make(number)[0].cpu()
        difference = pixels - expected
        assert difference.abs().max() <= 1.001 * level
        # Pillow rounds between its two passes, of which either may be the first; that has no direction.
        assert difference.mean().abs() < 0.02 * level
        assert torch.equal(pixels == 0, expected == 0), "zeros past the picture"


@pytest.mark.parametrize("device", DEVICES)
def test_targets_are_those_of_the_cpu(samples, device):
    ours = DeviceBatches(samples, MODEL, COLOURS, 12, seed=4, device=device)
    theirs = CrowdBatches(samples, MODEL, COLOURS, 12, seed=4)
    heads_seen = 0
    for number in range(20):
        (_, heads, counts), (_, expected_heads, expected_counts) = ours.make(number), theirs.make(number)
        assert torch.equal(counts.cpu(), expected_counts)
        torch.testing.assert_close(heads.cpu(), expected_heads, rtol=0, atol=0)
        heads_seen += int(counts.sum())
    assert heads_seen > 100


@pytest.mark.parametrize("device", DEVICES)
def test_colours_change_as_on_the_cpu(samples, device):
    augment = dataclasses.replace(COLOURS, scale=(1, 1), grey=0.5)
    expected, _, _ = CrowdBatches(samples, MODEL, augment, 40, seed=5).make(0)
    pixels = DeviceBatches(samples, MODEL, augment, 40, seed=5, device=device).make(0)[0].cpu()
    # One level of 255 apart in few pixels, which gamma and contrast may stretch fourfold.
    assert (pixels - expected).abs().mean() < 1e-3
    assert (pixels - expected).abs().max() < 4 / 255 / MODEL.pixel_std


def test_pictures_without_people_change_none_of_the_others(samples):
    augment = dataclasses.replace(COLOURS, negatives=0.4)
    theirs = CrowdBatches(samples, MODEL, augment, 12, seed=8)
    ours = DeviceBatches(samples, MODEL, augment, 12, seed=8, device="cpu")
    same = 0
    for number in range(10):
        (pixels, _, counts), (expected, _, expected_counts) = ours.make(number), theirs.make(number)
        assert torch.equal(counts, expected_counts)
        same += int(((pixels - expected).abs().flatten(1).max(1).values < 0.2).sum())
    # Three crops in five are of the pictures, and are the same.
    assert 55 < same < 90


def test_pictures_without_people_are_drawn_as_often_as_asked(samples):
    crowd = [dataclasses.replace(s, points=np.float32([[2, 2]])) for s in samples]
    augment = AugmentConfig(scale=(0.5, 0.5), negatives=0.3)
    crops = 400
    _, heads, counts = DeviceBatches(crowd, MODEL, augment, crops, device="cpu").make(0)
    empty = counts.sum(dim=(1, 2)) == 0
    assert torch.equal(empty, heads.amax(dim=(1, 2)) == 0)
    # Crops of the largest pictures may also miss the only head.
    assert 0.3 * crops - 40 < int(empty.sum()) < 0.6 * crops


def test_a_batch_depends_on_its_number_and_seed_alone(samples):
    make = [DeviceBatches(samples, MODEL, AugmentConfig(), 4, seed=seed, device="cpu").make for seed in (1, 1, 2)]
    make[0](5)
    for one, other in zip(make[0](3), make[1](3), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(make[0](3)[0], make[2](3)[0])


def test_the_cpu_trains_on_pillow_s_batches(samples):
    assert isinstance(make_batches(samples, TrainConfig(model=MODEL), "cpu"), CrowdBatches)


@pytest.mark.gpu
def test_a_run_on_a_gpu_learns_a_fixed_batch(samples, tmp_path):
    config = TrainConfig(minutes=1000, batch=8, learning_rate=3e-3, warmup=5, model=MODEL)
    batches = make_batches(samples, config, "cuda")
    assert isinstance(batches, DeviceBatches)
    run, batch = TrainingRun(config, tmp_path, "cuda"), batches.make(0)
    losses = [float(run.step(batch)["block"]) for _ in range(40)]
    assert np.mean(losses[-8:]) < 0.6 * np.mean(losses[:4])


@pytest.mark.parametrize("device", DEVICES)
def test_batches_made_ahead_come_in_order(samples, device):
    batches = DeviceBatches(samples, MODEL, COLOURS, 3, seed=6, device=device)
    stream = batches.iterate(first=4)
    for number in range(4, 12):
        assert torch.equal(next(stream)[0], batches.make(number)[0])
    stream.close()
