"""What a run leaves alone."""

from __future__ import annotations

import pytest
import torch
from small_run import MODEL

from engine.training.config import TrainConfig
from engine.training.losses import LossConfig
from engine.training.train import TrainingRun, make_batches


def test_a_rate_learns_the_same_without_the_decoder(samples, tmp_path, monkeypatch):
    rates = []
    for loss in (LossConfig(), LossConfig(map_weight=0.0)):
        config = TrainConfig(iterations=3, batch=2, warmup=1, fixed="all_but_rate", loss=loss, model=MODEL)
        run = TrainingRun(config, tmp_path)
        if not loss.map_weight:
            monkeypatch.setattr(run.network.decoder, "forward", lambda *_: pytest.fail("the decoder ran"))
        batches = make_batches(samples, config, "cpu")
        parts = [run.step(batches.make(number)) for number in range(3)]
        assert all(("map" in part) == (loss.map_weight > 0) for part in parts)
        rates.append(run.network.encoder.rate.state_dict())
    for name, value in rates[0].items():
        assert torch.equal(value, rates[1][name]), name


@pytest.mark.parametrize(
    ("fixed", "moved"), [("trunk", {"reduce", "smooth", "decoder", "rate"}), ("all_but_rate", {"rate"})]
)
def test_layers_that_are_fixed_stay(samples, tmp_path, fixed, moved):
    config = TrainConfig(iterations=3, batch=2, learning_rate=1e-2, warmup=1, fixed=fixed, model=MODEL)
    run = TrainingRun(config, tmp_path)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    batches = make_batches(samples, config, "cpu")
    for number in range(3):
        run.step(batches.make(number))
    changed = {name for name, value in run.network.state_dict().items() if not torch.equal(value, before[name])}
    assert not any("running" in name or "stride" in name for name in changed)
    groups = {next((g for g in ("smooth", "rate", "decoder") if g in name), "reduce") for name in changed}
    assert groups == moved
