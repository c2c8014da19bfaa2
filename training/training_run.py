"""A run between its steps: weights, optimiser and progress, and the checkpoint that holds them."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engine.config import ModelConfig
from engine.errors import ConfigError
from engine.model.checkpoint import load_state, read_model_config, save_whole
from engine.model.layers import channels_last
from engine.model.network import CrowdNetwork
from engine.model.precision import mixed_precision
from engine.model.trunk import EfficientNetLite
from engine.training.config import TrainConfig
from engine.training.fixed import fix_layers
from engine.training.frozen_layers import FrozenLayers
from engine.training.logit_limit import limit_logits
from engine.training.losses import crowd_loss, draw_levels
from engine.training.optimizer import MuonAdamW
from engine.training.pretrained import load_trunk

# Iterations from one look at the logits of attention to the next, and the crops that are looked at.
_LIMIT_EVERY, _LIMIT_CROPS = 20, 4


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
        whole, early = (
            self.config.done(length, self.iteration, self.progress) < 1
            for length in (self.config.frozen, self.config.frozen_early)
        )
        early = early or whole
        trunk.requires_grad_(not whole)
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
        """Write ``out/name`` whole or not at all.

        Raises:
            ConfigError: a weight is no finite number; the file stays as it is.
        """
        weights = [*self.network.state_dict().values(), *self.average.state_dict().values()]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in weights):
            raise self.diverged(self.iteration)
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

    def check(self, losses: Sequence[dict[str, Tensor]]) -> None:
        """See that the run has not diverged; ``losses`` are of the last steps, as :meth:`step` returned them.

        Raises:
            ConfigError: one of them is no finite number.
        """
        finite = torch.stack([parts["total"] for parts in losses]).isfinite().tolist()
        if not all(finite):
            raise self.diverged(self.iteration - len(finite) + finite.index(False) + 1)

    def diverged(self, iteration: int) -> ConfigError:
        """What is to be raised where the numbers of a step are no longer finite."""
        last = self.out / "last.pt"
        kept = f"{last} is from before that" if last.is_file() else "no checkpoint was written before that"
        return ConfigError(
            f"the training diverged at iteration {iteration}: its numbers are no longer finite; lower the learning "
            f"rate, which is {self.config.learning_rate:g}; {kept}"
        )


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
