"""Starting weights: a bundle's network with its norms put back computes the same, and can be trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.errors import BundleError, ConfigError
from engine.model.layers import ConvNorm, fold_norms
from engine.model.network import CrowdNetwork
from engine.training.augment import AugmentConfig
from engine.training.batches import CrowdBatches
from engine.training.config import TrainConfig
from engine.training.start import start_model, start_network, unfold_norms
from engine.training.train import train

MODEL = ModelConfig(
    widths=(8, 8, 8, 16, 16), depths=(0, 1, 1, 1, 1), features=16, attention_dim=8, decoder_width=16, crop_size=64
)


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    rng = np.random.default_rng(0)
    path = tmp_path / "picture_1.png"
    Image.fromarray(rng.integers(0, 255, (96, 96, 3), np.uint8)).save(path)
    return [Sample(path, rng.uniform(5, 90, (6, 2)).astype(np.float32), "part_A")]


@pytest.fixture
def network() -> CrowdNetwork:
    """Random weights, and norms that are far from doing nothing."""
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.3, 2)
            nn.init.uniform_(layer.bias, -1, 1)
            nn.init.uniform_(layer.running_mean, -1, 1)
            nn.init.uniform_(layer.running_var, 0.3, 2)
    nn.init.normal_(network.decoder.out.weight, std=0.1)
    return network


def test_unfolded_norms_compute_what_the_folded_network_does(network, samples):
    folded = fold_norms(network)
    unfolded = unfold_norms(folded, CrowdBatches(samples, MODEL, AugmentConfig(), 4))
    image, x_t, t = torch.randn(2, 3, 64, 96), torch.randn(2, 16, 8, 12), torch.tensor([1.0, 0.3])
    features, rate, _ = folded.encoder(image)
    again, rate_again, _ = unfolded.encoder(image)
    torch.testing.assert_close(again, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rate_again, rate, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        unfolded.decoder(features, x_t, t), folded.decoder(features, x_t, t), rtol=1e-4, atol=1e-4
    )


def test_unfolded_norms_have_the_statistics_of_what_reaches_them(network, samples):
    batches = CrowdBatches(samples, MODEL, AugmentConfig(), 8)
    unfolded = unfold_norms(fold_norms(network), batches).train()
    seen = []
    unfolded.encoder.smooth.norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    for number in range(12):
        unfolded.encoder(batches.make(number)[0])
    # In training mode the earlier norms use the statistics of each batch, so this is near, not equal.
    values = torch.cat(seen).transpose(0, 1).flatten(1)
    fresh = unfold_norms(fold_norms(network), batches).encoder.smooth.norm
    torch.testing.assert_close(values.var(dim=1) / fresh.running_var, torch.ones(16), rtol=0.5, atol=0)
    filters = [layer.conv.weight.flatten(1).norm(dim=1) for layer in unfolded.modules() if isinstance(layer, ConvNorm)]
    torch.testing.assert_close(torch.cat(filters), torch.ones(sum(map(len, filters))))


def test_a_run_starts_from_the_shipped_bundle(samples, tmp_path):
    shape = start_model("default")
    config = TrainConfig(iterations=1, batch=1, learning_rate=0.0, model=MODEL)
    best = train(config, samples, [], tmp_path / "run", start="default", progress=False)
    state = torch.load(best, weights_only=True)
    assert dataclasses.asdict(shape) == state["config"]["model"]
    assert state["iteration"] == 1
    started = start_network("default", CrowdBatches(samples, shape, config.augment, 1, config.seed)).state_dict()
    for name, value in state["network"].items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, started[name], msg=lambda text, name=name: f"{name}: {text}")


def test_a_run_starts_from_a_checkpoint(samples, tmp_path):
    config = TrainConfig(iterations=2, batch=1, warmup=1, learning_rate=1e-2, model=MODEL)
    first = train(config, samples, [], tmp_path / "first", progress=False)
    average = torch.load(first, weights_only=True)["average"]
    again = TrainConfig(iterations=1, batch=1, learning_rate=0.0)
    second = torch.load(train(again, samples, [], tmp_path / "second", start=first, progress=False), weights_only=True)
    torch.testing.assert_close(second["network"]["decoder.merge.weight"], average["decoder.merge.weight"])


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        start_model(tmp_path / "none.pt")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BundleError):
        start_model(tmp_path)
