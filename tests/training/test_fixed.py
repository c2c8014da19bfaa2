"""What a run leaves alone."""

from __future__ import annotations

import pytest
import torch
from small_run import MODEL

from engine.training.config import TrainConfig
from engine.training.train import TrainingRun, make_batches


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
