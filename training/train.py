"""The training loop."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.model.checkpoint import load_state
from engine.training.batches import Batches, CrowdBatches
from engine.training.config import TrainConfig
from engine.training.device_batches import DeviceBatches
from engine.training.start import start_model, start_network
from engine.training.training_run import TrainingRun
from engine.training.validate import validate

# Seconds of training from one checkpoint to the next: what is lost when the process is killed.
_SAVE_EVERY = 120.0
# Iterations from one look at the loss to the next.
_CHECK_EVERY = 20


def train(
    config: TrainConfig,
    samples: list[Sample],
    held_out: list[Sample],
    out: Path,
    device: str = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    progress: bool = True,
    compiled: bool = False,
    scenes: Sequence[np.ndarray] = (),
) -> Path:
    """Train on ``samples``; keep ``last.pt`` and, by its :func:`validate` score on ``held_out``, ``best.pt``.

    Args:
        resume: go on from ``out/last.pt``, if there is one, as if the run had not stopped. Without it, ``out`` must
            not hold a run.
        start: a checkpoint or bundle whose weights a new run starts from, instead of random ones; the network
            then has their shape, not that of ``config.model``.
        compiled: run the network through ``torch.compile``: a quarter less time per step, after a minute's wait, but
            half as much again with a pre-trained trunk; needs a C++ compiler.
        scenes: pictures without people, uint8 [H, W, 3] each.

    Returns:
        The path of ``best.pt``. ``log.jsonl`` beside it has one line per validation.

    Raises:
        ConfigError: ``out`` holds a run that is not to be resumed, or one with other settings; ``start`` is a
            fine-tuned model, and not only a rate is trained; or the run diverges, whose last finite checkpoint stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not resume and any((out / name).is_file() for name in ("best.pt", "last.pt")):
        raise ConfigError(
            f"{out} holds a run already, which this one would overwrite: resume it, or name another folder"
        )
    resume = resume and (out / "last.pt").is_file()
    model = _network_settings(config, start, out / "last.pt" if resume else None)
    config = dataclasses.replace(config, model=model)
    batches = make_batches(samples, config, device, scenes)
    run = TrainingRun(config, out, device, start_network(start, batches) if start and not resume else None)
    if resume:
        run.load(out / "last.pt")
        if (out / "best.pt").is_file():
            # It is newer, if the run ended between the two.
            run.best = min(run.best, load_state(out / "best.pt", "cpu")["best"])
            if run.progress >= 1:
                return out / "best.pt"
    if compiled:
        run.network.encoder.compile()
        run.network.decoder.compile()
    with tqdm(total=100, unit="%", disable=not progress, desc="train") as bar:
        _steps(run, batches, held_out, bar)
    return out / "best.pt"


def _steps(run: TrainingRun, batches: Batches, held_out: list[Sample], bar: tqdm) -> None:
    """Train to the end of the run, and keep its checkpoints."""
    config = run.config
    next_validation = run.seconds + 60 * config.validate_every
    next_save = run.seconds + _SAVE_EVERY
    losses: list[dict[str, Tensor]] = []
    clock = time.perf_counter()
    for batch in batches.iterate(run.iteration):
        if not config.iterations and config.is_late(run.progress):
            # From the next batch that is made: which one it is, no run by minutes knows before.
            batches.sizes.late_from = 0
        losses.append(run.step(batch))
        now = time.perf_counter()
        run.seconds, clock = run.seconds + now - clock, now
        if run.iteration % _CHECK_EVERY == 0:
            run.check(losses[-_CHECK_EVERY:])
            speed = run.crops / run.seconds
            bar.n = round(100 * run.progress, 1)
            bar.set_postfix_str(f"iteration {run.iteration}, loss {losses[-1]['total']:.4f}, {speed:.0f} crops/s")
        done = run.progress >= 1
        if run.seconds >= next_save and not done:  # The end is saved with its validation.
            run.check(losses[-_CHECK_EVERY:])
            run.save("last.pt")
            clock = time.perf_counter()
            next_save = run.seconds + _SAVE_EVERY
        if done or run.seconds >= next_validation:
            _report(run, held_out, losses)
            losses, next_validation = [], run.seconds + 60 * config.validate_every
            clock = time.perf_counter()
        if done:
            break


def _network_settings(config: TrainConfig, start: str | Path | None, last: Path | None) -> ModelConfig:
    """Settings of the network: those of ``start``, or those of ``config`` for crops of its size.

    A network that goes on from the checkpoint ``last`` keeps the size that it was made for.
    """
    if start:
        model = start_model(start)
        if model.own_rate and config.fixed != "all_but_rate":
            raise ConfigError(f"{start} was fine-tuned, and can only be tuned again: start from what it was tuned from")
        return model
    size = load_state(last)["config"]["model"]["crop_size"] if last else config.crop
    return dataclasses.replace(config.model, crop_size=size or config.model.crop_size)


def make_batches(samples: list[Sample], config: TrainConfig, device: str, scenes: Sequence[np.ndarray] = ()) -> Batches:
    """Batches made where the network is: on a GPU, or by Pillow in threads beside it on a CPU.

    ``scenes`` are pictures without people, uint8 [H, W, 3] each.
    """
    model = dataclasses.replace(config.model, crop_size=config.crop or config.model.crop_size)
    settings = samples, model, config.augment, config.batch, config.seed, config.sizes, scenes
    return CrowdBatches(*settings) if torch.device(device).type == "cpu" else DeviceBatches(*settings, device=device)


def _report(run: TrainingRun, held_out: list[Sample], losses: list[dict[str, Tensor]]) -> None:
    run.check(losses[-_CHECK_EVERY:])
    scores = validate(run.average, run.config.model, held_out, run.device) if held_out else {}
    # Without held-out pictures the last weights are the ones to keep.
    score = scores.get("score", -run.iteration)
    if not math.isfinite(score):
        raise run.diverged(run.iteration)
    improved = score <= run.best
    run.best = min(run.best, score)
    if improved:
        run.save("best.pt")
    run.save("last.pt")
    mean = {name: float(torch.stack([x[name] for x in losses]).mean()) for name in losses[0]}
    row = {
        "iteration": run.iteration,
        "minutes": round(run.seconds / 60, 2),
        "crops_per_second": round(run.crops / run.seconds, 1),
        "train": mean,
        "held_out": scores,
    }
    with open(run.out / "log.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    tqdm.write(json.dumps(row))
