"""The mean of checkpoints: its weights, the statistics of its norms, and the command."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.model.checkpoint import load_network, save_model
from engine.model.layers import ConvNorm
from engine.model.network import CrowdNetwork
from engine.training import __main__ as command
from engine.training import average
from engine.training.__main__ import main
from engine.training.augment import AugmentConfig
from engine.training.average import average_weights, fit_norms
from engine.training.batches import CrowdBatches
from engine.training.config import TrainConfig
from engine.training.losses import LossConfig
from engine.training.train import TrainingRun

MODEL = ModelConfig(
    widths=(8, 8, 8, 16, 16), depths=(0, 0, 1, 1, 0), features=16, attention_dim=8, decoder_width=16, crop_size=64
)

TRUNK = ModelConfig(trunk="efficientnet_lite0", neck=16, features=16, attention_dim=8, decoder_width=16, crop_size=64)


@pytest.fixture
def checkpoints(tmp_path):
    paths = []
    for seed in range(3):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"{seed}.pt")
        save_model(CrowdNetwork(MODEL), {}, paths[-1])
    return paths


@pytest.fixture
def folder(tmp_path):
    """Dark pictures with a bright block at each head, two of which are held out."""
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "images").mkdir(parents=True)
    rows = ["image,x,y"]
    for number in (1, 2, 5, 15):
        pixels = rng.integers(0, 60, (80, 96, 3), np.uint8)
        for x, y in rng.integers(8, 72, (4, 2)):
            pixels[y - 3 : y + 4, x - 3 : x + 4] = 240
            rows.append(f"{number}.png,{x},{y}")
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{number}.png")
    (tmp_path / "data" / "points.csv").write_text("\n".join(rows))
    return tmp_path / "data"


def test_weights_are_the_mean(checkpoints):
    mean = average_weights(checkpoints).state_dict()
    states = [load_network(path).state_dict() for path in checkpoints]
    assert mean.keys() == states[0].keys()
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, sum(state[name] for state in states) / 3, msg=name)


def test_checkpoints_of_other_networks_are_refused(checkpoints, tmp_path):
    save_model(CrowdNetwork(dataclasses.replace(MODEL, features=32)), {}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"other\.pt is of another network"):
        average_weights([*checkpoints, tmp_path / "other.pt"])
    with pytest.raises(ConfigError, match=r"none\.pt does not exist"):
        average_weights([tmp_path / "none.pt"])


def test_norms_have_the_statistics_of_the_crops(checkpoints, folder, monkeypatch):
    monkeypatch.setattr(average, "_BATCHES", 3)
    network = average_weights(checkpoints)
    samples = [Sample(folder / "images" / f"{n}.png", np.zeros((0, 2), np.float32), "part") for n in (1, 2)]
    batches = CrowdBatches(samples, MODEL, AugmentConfig(), 4)
    first = next(layer for layer in network.encoder.modules() if isinstance(layer, ConvNorm))
    with torch.no_grad():
        outputs = [first.conv(batches.make(number)[0]) for number in range(3)]
    seen, decoded = [], []
    network.encoder.register_forward_hook(lambda _, __, outputs: seen.append(outputs[0]))
    network.decoder.register_forward_hook(lambda _, inputs, __: decoded.append(inputs[0]))
    fit_norms(network, batches, LossConfig())
    assert not network.training
    assert decoded
    assert all(any(features is x for x in seen) for features in decoded)
    # bfloat16 keeps 8 bits.
    expected = torch.stack([x.mean(dim=(0, 2, 3)) for x in outputs]).mean(dim=0)
    torch.testing.assert_close(first.norm.running_mean, expected, rtol=0.02, atol=0.01)
    expected = torch.stack([x.transpose(0, 1).flatten(1).var(dim=1) for x in outputs]).mean(dim=0)
    torch.testing.assert_close(first.norm.running_var, expected, rtol=0.02, atol=1e-3)
    # The decoder's are taken too.
    assert all(x.norm.num_batches_tracked == 3 for x in network.modules() if isinstance(x, ConvNorm))


def test_a_pretrained_trunk_keeps_its_statistics(folder, monkeypatch):
    monkeypatch.setattr(average, "_BATCHES", 2)
    torch.manual_seed(0)
    network = CrowdNetwork(TRUNK)
    for norm in (x for x in network.modules() if isinstance(x, nn.BatchNorm2d)):
        norm.running_mean.normal_()
    before = copy.deepcopy(network.state_dict())
    samples = [Sample(folder / "images" / "1.png", np.zeros((0, 2), np.float32), "part")]
    fit_norms(network, CrowdBatches(samples, TRUNK, AugmentConfig(), 2), LossConfig())
    after = network.state_dict()
    kept = {name for name in before if name.endswith("running_mean") and torch.equal(before[name], after[name])}
    assert kept == {name for name in before if name.startswith("encoder.trunk.") and name.endswith("running_mean")}
    assert kept


def test_the_command_writes_a_calibrated_model(checkpoints, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(average, "_BATCHES", 2)
    out = tmp_path / "model.pt"
    main(["average", str(folder), *map(str, checkpoints[:2]), "--out", str(out)])
    assert "too few held-out pictures" in capsys.readouterr().out
    state = load_network(out).state_dict()
    name = next(x for x in state if x.endswith("conv.weight"))
    expected = (load_network(checkpoints[0]).state_dict()[name] + load_network(checkpoints[1]).state_dict()[name]) / 2
    torch.testing.assert_close(state[name], expected)
    assert torch.load(out, weights_only=True)["counting"]


def test_the_crops_are_those_of_the_run(samples, tmp_path, monkeypatch):
    run = TrainConfig(iterations=1, batch=3, crop=128, augment=AugmentConfig(scale=(0.3, 0.4)), model=MODEL)
    TrainingRun(run, tmp_path).save("last.pt")
    taken = []
    monkeypatch.setattr(command, "make_batches", lambda _, config, __: taken.append(config))
    monkeypatch.setattr(command, "fit_norms", lambda *_: None)
    monkeypatch.setattr(command, "_calibrate", lambda *_: None)
    monkeypatch.setattr(command, "check_split", lambda *_: (samples, samples))
    monkeypatch.setattr(command.dataset, "read_samples", lambda *_: samples)
    command.main(["average", str(tmp_path), str(tmp_path / "last.pt"), str(tmp_path / "last.pt")])
    assert taken == [run]
