"""The training loop."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.model.checkpoint import load_state, read_model_config, save_whole
from engine.model.layers import channels_last
from engine.model.network import CrowdNetwork
from engine.model.precision import mixed_precision
from engine.model.trunk import EfficientNetLite
from engine.training.batches import Batches, CrowdBatches
from engine.training.config import TrainConfig
from engine.training.device_batches import DeviceBatches
from engine.training.fixed import fix_layers
from engine.training.frozen_layers import FrozenLayers
from engine.training.logit_limit import limit_logits
from engine.training.losses import crowd_loss, draw_levels
from engine.training.optimizer import MuonAdamW
from engine.training.pretrained import load_trunk
from engine.training.start import start_model, start_network
from engine.training.validate import validate

# Iterations from one look at the logits of attention to the next, and the crops that are looked at.
_LIMIT_EVERY, _LIMIT_CROPS = 20, 4
# Seconds of training from one checkpoint to the next: what is lost when the process is killed.
_SAVE_EVERY = 120.0


class TrainingRun:
    """Everything that a checkpoint holds: weights, averaged weights, optimiser, progress."""

    def __init__(self, config: TrainConfig, out: Path, device: str = "cpu", network: CrowdNetwork | None = None):
        self.config, self.out, self.device = config, out, torch.device(device)
        torch.manual_seed(config.seed)
        self.network = channels_last((network or pretrained_network(config.model)).to(self.device))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = make_optimizer(self.network, config)
        self.iteration, self.seconds, self.best = 0, 0.0, math.inf

    @property
    def crops(self) -> float:
        """Crops seen, counted in crops of the first size: larger ones count as more."""
        return self.config.batch * self.iteration

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 .. 1."""
        if self.config.iterations:
            return min(self.iteration / self.config.iterations, 1.0)
        return min(self.seconds / (60 * self.config.minutes), 1.0)

    def step(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """One optimiser step; returns the parts of the loss, as :func:`crowd_loss` does."""
        config = self.config
        self.network.train()
        if config.fixed != "nothing":
            fix_layers(self.network, config.fixed)
        elif self.network.encoder.has_trunk:
            self._freeze(self.network.encoder.trunk)
        rng = np.random.default_rng((config.seed, self.iteration, 1))
        pixels, heads, counts = (x.to(self.device, non_blocking=True) for x in batch)
        if self.iteration % _LIMIT_EVERY == 0 and config.fixed != "all_but_rate":
            limit_logits([self.average, self.network], pixels[:_LIMIT_CROPS])
        latent = len(pixels), config.model.latent_channels, pixels.shape[2] // 8, pixels.shape[3] // 8
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        noise = torch.randn(latent, generator=generator, device=self.device)
        levels = draw_levels(len(pixels), config.loss, rng)
        with mixed_precision(self.device):
            loss, parts = crowd_loss(self.network, config.loss, pixels, heads, counts, levels, noise)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), config.clip_norm)
        self.optimizer.step(config.rate(self.iteration, self.progress))
        self.iteration += 1
        self._update_average()
        return parts

    def _freeze(self, trunk: EfficientNetLite) -> None:
        """Let the next step leave alone what the settings say."""
        early = self.iteration < max(self.config.frozen, self.config.frozen_early)
        trunk.requires_grad_(self.iteration >= self.config.frozen)
        trunk.early.requires_grad_(not early)
        if not early:
            trunk.frozen_early = None
        elif trunk.frozen_early is None and self.device.type == "cpu":
            trunk.frozen_early = FrozenLayers(trunk.early)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Young runs average over a fifth of their life, so that early checkpoints are usable.
        decay = min(self.config.ema, 1 - 1 / (self.iteration / 5 + 1))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        for mine, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(current, 1 - decay)

    def save(self, name: str) -> None:
        """Write ``out/name`` whole or not at all."""
        state = {
            "config": dataclasses.asdict(self.config),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "seconds": self.seconds,
            "best": self.best,
        }
        save_whole(state, self.out / name)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint written by :meth:`save`.

        Raises:
            ConfigError: it is of a network with other settings.
        """
        # Not to the GPU: the optimiser's counters stay where they are loaded, and are read by the host at every step.
        state = load_state(path)
        if read_model_config(state["config"]["model"]) != self.config.model:
            raise ConfigError(
                f"{path} is of a network with other settings; resume with those of its run, or start anew"
            )
        self.network.load_state_dict(state["network"])
        if self.network.encoder.has_trunk:
            self.network.encoder.trunk.frozen_early = None
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.seconds, self.best = state["iteration"], state["seconds"], state["best"]


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
        ConfigError: ``out`` holds a run that is not to be resumed, or one with other settings; or ``start`` is a
            fine-tuned model, and not only a rate is trained.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not resume and any((out / name).is_file() for name in ("best.pt", "last.pt")):
        raise ConfigError(
            f"{out} holds a run already, which this one would overwrite: resume it, or name another folder"
        )
    resume = resume and (out / "last.pt").is_file()
    if resume:
        # A network keeps the size of crops that it was made for.
        size = load_state(out / "last.pt")["config"]["model"]["crop_size"]
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, crop_size=size))
    if start:
        config = dataclasses.replace(config, model=start_model(start))
        if config.model.own_rate and config.fixed != "all_but_rate":
            raise ConfigError(f"{start} was fine-tuned, and can only be tuned again: start from what it was tuned from")
    elif config.crop and not resume:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, crop_size=config.crop))
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
    bar = tqdm(total=100, unit="%", disable=not progress, desc="train")
    next_validation = run.seconds + 60 * config.validate_every
    next_save = run.seconds + _SAVE_EVERY
    losses: list[dict[str, Tensor]] = []
    clock = time.perf_counter()
    for batch in batches.iterate(run.iteration):
        losses.append(run.step(batch))
        now = time.perf_counter()
        run.seconds, clock = run.seconds + now - clock, now
        if run.iteration % 20 == 0:
            speed = run.crops / run.seconds
            bar.n = round(100 * run.progress, 1)
            bar.set_postfix_str(f"iteration {run.iteration}, loss {losses[-1]['total']:.4f}, {speed:.0f} crops/s")
        done = run.progress >= 1
        if run.seconds >= next_save and not done:  # The end is saved with its validation.
            run.save("last.pt")
            clock = time.perf_counter()
            next_save = run.seconds + _SAVE_EVERY
        if done or run.seconds >= next_validation:
            _report(run, held_out, losses)
            losses, next_validation = [], run.seconds + 60 * config.validate_every
            clock = time.perf_counter()
        if done:
            break
    bar.close()
    return out / "best.pt"


def make_optimizer(network: nn.Module, config: TrainConfig) -> MuonAdamW:
    """The optimiser that ``config`` asks for."""
    trunk: list[nn.Parameter] = []
    if isinstance(network, CrowdNetwork) and network.encoder.has_trunk:
        trunk = list(network.encoder.trunk.parameters())
    muon = config.optimizer == "muon"
    return MuonAdamW(network, config.learning_rate, config.weight_decay, muon, trunk, config.trunk_rate)


def pretrained_network(model: ModelConfig) -> CrowdNetwork:
    """A network with random weights but for its trunk, if it has one, which starts from those that its package has."""
    network = CrowdNetwork(model)
    if network.encoder.has_trunk:
        load_trunk(network.encoder.trunk)
    return network


def make_batches(samples: list[Sample], config: TrainConfig, device: str, scenes: Sequence[np.ndarray] = ()) -> Batches:
    """Batches made where the network is: on a GPU, or by Pillow in threads beside it on a CPU.

    ``scenes`` are pictures without people, uint8 [H, W, 3] each.
    """
    model = dataclasses.replace(config.model, crop_size=config.crop or config.model.crop_size)
    settings = samples, model, config.augment, config.batch, config.seed, config.sizes, scenes
    return CrowdBatches(*settings) if torch.device(device).type == "cpu" else DeviceBatches(*settings, device=device)


def _report(run: TrainingRun, held_out: list[Sample], losses: list[dict[str, Tensor]]) -> None:
    scores = validate(run.average, run.config.model, held_out, run.device) if held_out else {}
    # Without held-out pictures the last weights are the ones to keep.
    score = scores.get("score", -run.iteration)
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
