"""Settings of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine.config import ModelConfig, check_range
from engine.errors import ConfigError
from engine.training.augment import AugmentConfig
from engine.training.batches import Sizes
from engine.training.checks import check_finite, check_not_negative, check_positive
from engine.training.fixed import FIXED
from engine.training.losses import REGION, LossConfig


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run; stored in its checkpoint.

    Attributes:
        iterations: length of the run. The learning rate falls to zero over it.
        minutes: length of the run where ``iterations`` is 0; a resumed run goes on from the minutes already spent.
        batch: crops in a step.
        crop: side of the crops in pixels, a multiple of 64; 0 is the ``crop_size`` of the model. A model that starts
            from random weights takes it for its own.
        optimizer: "muon" for :class:`MuonAdamW`, or "adamw" for AdamW alone.
        learning_rate, weight_decay, warmup: of the optimiser; the
            warm-up is a share of the run below 1, or iterations.
        decay: share of the run, at its end, over which the learning rate falls to zero; before that it is constant, so
            that a run can be made longer after it was begun.
        trunk_rate: learning rate of a pre-trained trunk, as a share of that of the other layers.
        frozen: how long a pre-trained trunk stays as it is at the start: a share of the run below 1, or iterations.
        frozen_early: the same for the trunk's layers before stride 4. They make a step half as long again; trained at
            the end of a run, they make errors smaller by some 5 %.
        fixed: what stays as it is for the whole run, the statistics of all norms included: "nothing", "trunk" or
            "all_but_rate"; see :func:`engine.training.fixed.fix_layers`.
        late_crop, late: side of the crops in the last share ``late`` of the run, in pixels, a multiple of 64; a batch
            then has as many pixels as before. 0: no such part.
        ema: decay of the averaged weights, which are the ones that are kept.
        validate_every: minutes between validations.
    """

    iterations: int = 0
    minutes: float = 60.0
    batch: int = 16
    crop: int = 0
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup: float = 300.0
    decay: float = 1.0
    trunk_rate: float = 0.3
    frozen: float = 0.0
    frozen_early: float = 0.0
    fixed: str = "nothing"
    late_crop: int = 0
    late: float = 0.0
    ema: float = 0.999
    clip_norm: float = 5.0
    validate_every: float = 10.0
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw"):
            raise ConfigError(f"optimizer must be 'muon' or 'adamw', got {self.optimizer!r}")
        if self.fixed not in FIXED:
            raise ConfigError(f"fixed must be one of {', '.join(FIXED)}, got {self.fixed!r}")
        check_range("seed", self.seed, 0, 2**63 - 1)
        check_finite(self)
        check_not_negative(self, "iterations", "learning_rate", "weight_decay", "ema", "trunk_rate", "late_crop")
        check_positive(self, "batch", "clip_norm", "validate_every", *(() if self.iterations else ("minutes",)))
        for name in ("warmup", "frozen", "frozen_early"):
            length = getattr(self, name)
            if length < 0 or (length > 1 and length % 1):
                raise ConfigError(
                    f"{name} must not be negative: a share of the run below 1, or whole iterations, got {length}"
                )
        side = self.crop or self.model.crop_size
        if side <= 0 or side % REGION:
            raise ConfigError(f"crop must be a multiple of {REGION}, got {side}")
        if self.ema >= 1:
            raise ConfigError(f"ema must be below 1, got {self.ema}")
        if not 0 < self.decay <= 1 or not 0 <= self.late <= 1:
            raise ConfigError(f"decay and late must be shares of the run, got {self.decay} and {self.late}")
        if self.late_crop % REGION:
            raise ConfigError(f"late_crop must be a multiple of {REGION}, got {self.late_crop}")

    @property
    def sizes(self) -> Sizes:
        """Crops of each batch; of a run by minutes, the later ones begin when :meth:`is_late` says so."""
        late_from = round((1 - self.late) * self.iterations) if self.iterations else math.inf
        return Sizes(self.crop or self.model.crop_size, self.batch, self.late_crop if self.late else 0, late_from)

    def is_late(self, progress: float) -> bool:
        """Whether the last part of the run, with larger crops, has begun when ``progress`` (0 .. 1) of it is done."""
        return self.late > 0 and progress >= 1 - self.late

    def done(self, length: float, iteration: int, progress: float) -> float:
        """How much of the first part of the run is done, 0 .. 1, when ``iteration`` is to come.

        Args:
            length: of that part: a share of the run below 1, or iterations.
            iteration, progress: of the run; ``progress`` is 0 .. 1.
        """
        if length >= 1 or self.iterations:
            steps = length if length >= 1 else round(length * self.iterations)
            return min(iteration / steps, 1.0) if steps else 1.0
        return min(progress / length, 1.0) if length else 1.0

    def rate(self, iteration: int, progress: float) -> float:
        """Learning rate at ``iteration``, when ``progress`` (0 .. 1) of the run is done."""
        warm = self.done(self.warmup, iteration + 1, progress)
        fallen = max(progress - (1 - self.decay), 0.0) / self.decay
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * fallen))
