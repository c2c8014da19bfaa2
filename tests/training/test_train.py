"""The training loop on two small pictures: it learns, resumes exactly, and its batches depend on their number alone."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import MODEL, weights

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.model.checkpoint import load_network
from engine.model.layers import channels_last
from engine.model.network import CrowdNetwork
from engine.training.augment import AugmentConfig
from engine.training.batches import CrowdBatches
from engine.training.config import TrainConfig
from engine.training.logit_limit import LIMIT, limit_logits
from engine.training.losses import crowd_loss, draw_levels
from engine.training.train import TrainingRun, make_batches, train

CONFIG = TrainConfig(minutes=1000, batch=2, learning_rate=3e-3, warmup=5, model=MODEL)


@pytest.fixture
def batches(samples) -> CrowdBatches:
    return CrowdBatches(samples, MODEL, AugmentConfig(), CONFIG.batch, seed=1)


def total(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    loss = CONFIG.loss
    return (
        loss.map_weight * parts["map"] + loss.block_weight * parts["block"] + loss.region_weight * parts["region"]
    )  # fmt: skip


def test_the_loss_of_a_fixed_batch_falls(batches, tmp_path):
    run = TrainingRun(CONFIG, tmp_path)
    batch = batches.make(0)
    losses = [float(total(run.step(batch))) for _ in range(40)]
    # Times and noise differ at every step, hence means.
    assert np.mean(losses[-8:]) < 0.6 * np.mean(losses[:4])


def test_a_run_resumed_from_its_checkpoint_is_bit_equal(batches, tmp_path):
    straight = TrainingRun(CONFIG, tmp_path)
    for number in range(6):
        straight.step(batches.make(number))

    first = TrainingRun(CONFIG, tmp_path)
    for number in range(3):
        first.step(batches.make(number))
    first.save("part.pt")
    resumed = TrainingRun(CONFIG, tmp_path)
    resumed.load(tmp_path / "part.pt")
    assert resumed.iteration == 3
    for number in range(3, 6):
        resumed.step(batches.make(number))

    expected, got = weights(straight), weights(resumed)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    # Equal weights would also follow from steps that do nothing.
    assert not torch.equal(next(iter(weights(first).values())), next(iter(expected.values())))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
# Device "meta" has no values to copy, and says so.
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
def test_a_run_resumed_elsewhere_keeps_its_counters_on_the_host(batches, tmp_path, device, optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    first = TrainingRun(config, tmp_path)
    first.step(batches.make(0))
    first.save("part.pt")
    resumed = TrainingRun(config, tmp_path, device)
    resumed.load(tmp_path / "part.pt")
    places = {
        (name, value.device.type)
        for each in resumed.optimizer._optimizers.values()
        for state in each.state.values()
        for name, value in state.items()
    }
    buffers = {"exp_avg", "exp_avg_sq", *(["momentum_buffer"] if optimizer == "muon" else [])}
    # AdamW reads its counters at every step: on a GPU, the host would wait for it each time.
    assert places == {("step", "cpu")} | {(name, device) for name in buffers}
    assert {x.device.type for x in weights(resumed).values()} == {device}


def test_crops_larger_than_the_models_own(samples, tmp_path):
    config = dataclasses.replace(CONFIG, iterations=1, crop=128)
    assert make_batches(samples, config, "cpu").make(0)[0].shape == (2, 3, 128, 128)
    # A model from random weights is made for them; one that there is keeps its own, by which its logits are scaled.
    new = train(config, samples, [], tmp_path / "new", progress=False)
    assert load_network(new).config.crop_size == 128
    old = train(dataclasses.replace(config, crop=0), samples, [], tmp_path / "old", progress=False)
    tuned = train(config, samples, [], tmp_path / "tuned", start=old, progress=False)
    assert load_network(tuned).config == load_network(old).config == MODEL
    assert json.loads((tmp_path / "tuned" / "log.jsonl").read_text())["iteration"] == 1
    # It goes on so without its start.
    longer = dataclasses.replace(config, iterations=2)
    assert load_network(train(longer, samples, [], tmp_path / "tuned", resume=True, progress=False)).config == MODEL


def test_batches_depend_on_their_number_and_seed_alone(samples, batches):
    again = CrowdBatches(samples, MODEL, AugmentConfig(), CONFIG.batch, seed=1)
    made = {number: again.make(number) for number in (3, 0, 2)}
    for number, expected in made.items():
        assert all(torch.equal(a, b) for a, b in zip(batches.make(number), expected, strict=True))
    assert not torch.equal(batches.make(0)[0], batches.make(1)[0])
    other = CrowdBatches(samples, MODEL, AugmentConfig(), CONFIG.batch, seed=2)
    assert not torch.equal(batches.make(0)[0], other.make(0)[0])


def test_batches_come_in_order(batches):
    stream = batches.iterate(first=4)
    for number in (4, 5, 6):
        assert torch.equal(next(stream)[0], batches.make(number)[0])
    stream.close()


def test_a_short_run_leaves_checkpoints_and_a_log_and_can_go_on(samples, tmp_path):
    config = TrainConfig(minutes=0.005, batch=2, warmup=5, model=MODEL)
    out = tmp_path / "run"
    best = train(config, samples, samples, out, progress=False)
    assert best == out / "best.pt"
    assert sorted(p.name for p in out.iterdir()) == ["best.pt", "last.pt", "log.jsonl"]
    last = torch.load(out / "last.pt", weights_only=True)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(ConfigError, match="holds a run already"):
        train(config, samples, samples, out, progress=False)
    other = dataclasses.replace(config, model=dataclasses.replace(MODEL, map_scale=0.5))
    with pytest.raises(ConfigError, match="network with other settings"):
        train(other, samples, samples, out, resume=True, progress=False)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    # However slow the machine, there is time left for another step.
    longer = dataclasses.replace(config, minutes=last["seconds"] / 60 + config.minutes)
    train(longer, samples, samples, out, resume=True, progress=False)
    rows = [json.loads(line) for line in Path(out / "log.jsonl").read_text().splitlines()]
    assert rows[0]["iteration"] == last["iteration"]
    assert rows[-1]["iteration"] > last["iteration"]
    scores = rows[0]["held_out"]
    errors = [scores[f"rate/{sample.part}"] / max(len(sample.points), 1) for sample in samples]
    assert scores["score"] == pytest.approx(scores["map"] * np.mean(errors))
    for sample, error in zip(samples, errors, strict=True):  # of one picture each
        assert abs(scores[f"ratio/{sample.part}"] - 1) == pytest.approx(error)
    assert ModelConfig(**torch.load(best, weights_only=True)["config"]["model"]) == MODEL


# PyTorch's own, of its compiler.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_a_compiled_run_takes_the_same_steps(samples, tmp_path):
    config = TrainConfig(iterations=2, batch=2, model=MODEL)
    losses = []
    for compiled in (False, True):
        out = tmp_path / str(compiled)
        best = train(config, samples, [], out, progress=False, compiled=compiled)
        losses.append(json.loads((out / "log.jsonl").read_text())["train"])
        load_network(best)  # The names of the weights are the same.
    # bfloat16 is rounded elsewhere; a likelihood may be close to 0.
    assert losses[1] == pytest.approx(losses[0], rel=1e-2, abs=1e-4)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize(("is_reduced", "count_bins"), [(True, ()), (False, (1, 2, 5))])
def test_a_compiled_network_has_the_same_gradients(is_reduced, count_bins, batches):
    """Every parameter's: a loss may be right while none at all reaches some of the layers (PyTorch 2.13)."""
    torch.manual_seed(0)
    network = channels_last(CrowdNetwork(dataclasses.replace(MODEL, count_bins=count_bins))).train()
    with torch.no_grad():
        # Attention, the decoder's times and its output begin at 0, and give no gradient then.
        for name, parameter in network.named_parameters():
            if name.endswith("gamma") or "scale_shift" in name or name.startswith("decoder.out"):
                parameter.copy_(torch.randn_like(parameter))
    compiled = copy.deepcopy(network)
    compiled.encoder.compile()
    compiled.decoder.compile()
    pixels, heads, counts = batches.make(0)
    noise = torch.randn(len(pixels), MODEL.latent_channels, pixels.shape[2] // 8, pixels.shape[3] // 8)
    levels = draw_levels(len(pixels), CONFIG.loss, np.random.default_rng(0))
    for each in (network, compiled):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_reduced):
            loss, _ = crowd_loss(each, CONFIG.loss, pixels, heads, counts, levels, noise)
        loss.backward()
    for (name, eager), other in zip(network.named_parameters(), compiled.parameters(), strict=True):
        expected, got = eager.grad.double().flatten(), other.grad.double().flatten()
        assert expected.norm() > 0, name
        # The cosine of the angle between them; bfloat16 is rounded elsewhere.
        assert expected @ got / expected.norm() / got.norm().clamp(min=1e-30) > (0.8 if is_reduced else 0.999), name
        assert float(got.norm() / expected.norm()) == pytest.approx(1, rel=0.3 if is_reduced else 1e-2), name


def test_logits_of_attention_are_limited_while_training(batches, tmp_path):
    run = TrainingRun(CONFIG, tmp_path)
    run.step(batches.make(0))
    attention = run.network.encoder.attention
    with torch.no_grad():
        for network in (run.network, run.average):
            network.encoder.attention.query_key_value.weight[: 2 * attention.dim] *= 100
    for number in range(1, 21):
        run.step(batches.make(number))
    assert limit_logits([run.average], batches.make(20)[0], limit=1e9) < 2 * LIMIT


def test_a_run_that_ends_between_its_checkpoints_keeps_its_best(samples, tmp_path, monkeypatch):
    """The disk fills up when the second of the two is written; the best score is then known from the first."""
    config = TrainConfig(iterations=1, batch=2, model=MODEL)
    save, scores = TrainingRun.save, iter([2.0, 3.0])
    monkeypatch.setattr("engine.training.train.validate", lambda *_: {"score": next(scores)})

    def fail_at_last(run: TrainingRun, name: str) -> None:
        if name == "last.pt":
            raise OSError("no space left on device")
        save(run, name)

    monkeypatch.setattr(TrainingRun, "save", fail_at_last)
    with pytest.raises(OSError, match="no space"):
        train(config, samples, samples, tmp_path, progress=False)
    best = tmp_path / "best.pt"
    assert torch.load(best, weights_only=True)["best"] == 2.0
    with pytest.raises(ConfigError, match="holds a run already"):
        train(config, samples, samples, tmp_path, progress=False)
    # The other way round, last.pt would name a score whose weights are lost.
    monkeypatch.setattr(TrainingRun, "save", save)
    run = TrainingRun(config, tmp_path)
    run.best = 7.0
    run.save("last.pt")
    train(dataclasses.replace(config, iterations=2), samples, samples, tmp_path, resume=True, progress=False)
    for name in ("best.pt", "last.pt"):
        assert torch.load(tmp_path / name, weights_only=True)["best"] == 2.0


def test_a_run_that_diverges_is_stopped_with_its_last_finite_checkpoint(samples, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, iterations=3)
    first = train(config, samples, [], tmp_path, progress=False)
    saved = {name: (tmp_path / name).read_bytes() for name in ("best.pt", "last.pt")}
    wild = dataclasses.replace(config, iterations=60, learning_rate=1e9, clip_norm=1e30)
    with pytest.raises(ConfigError, match=r"diverged at iteration [4-9]: .* lower the learning rate.*last.pt is from"):
        train(wild, samples, [], tmp_path, resume=True, progress=False)
    assert saved == {name: (tmp_path / name).read_bytes() for name in saved}
    assert first.is_file()
    # The last step's loss may be finite where its weights are not, and weights where the score is not.
    run = TrainingRun(config, tmp_path / "new")
    next(run.network.parameters()).data.fill_(math.nan)
    with pytest.raises(ConfigError, match=r"diverged at iteration 0: .* no checkpoint was written"):
        run.save("last.pt")
    monkeypatch.setattr("engine.training.train.validate", lambda *_: {"score": math.nan})
    with pytest.raises(ConfigError, match="diverged at iteration 1:"):
        train(dataclasses.replace(config, iterations=1), samples, samples, tmp_path / "more", progress=False)
    assert not list((tmp_path / "more").iterdir())


def test_a_run_without_a_warm_up_starts_at_its_full_rate(batches, tmp_path, monkeypatch):
    run, rates = TrainingRun(dataclasses.replace(CONFIG, warmup=0), tmp_path), []
    monkeypatch.setattr(run.optimizer, "step", rates.append)
    run.step(batches.make(0))
    assert rates == [CONFIG.learning_rate]


def test_every_part_is_drawn_as_often_as_the_others(samples):
    # One bright picture against nine dark ones of another part.
    bright, dark = samples
    crowd = [bright, *(Sample(dark.image, dark.points[:0], dark.part) for _ in range(9))]
    batches = CrowdBatches(crowd, MODEL, AugmentConfig(scale=(0.6, 0.6)), 200, seed=0)
    share = float((batches.make(0)[2].sum(dim=(1, 2)) > 0).float().mean())
    # 200 draws at 1/2: standard deviation 0.035. By number of pictures it would be 1/10.
    assert 0.35 < share < 0.65
