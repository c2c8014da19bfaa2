"""Whether one network counts better than another, by the same pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.config import CountingRule
from engine.counting.heads import count_ungated
from engine.dataset.samples import Sample
from engine.model.network import CrowdNetwork
from engine.training.calibrate import read_pictures
from engine.training.rule import Reading

# Standard errors beyond which a change is one.
_BEYOND = 2.0


@dataclass(frozen=True)
class Change:
    """How the absolute errors of counts changed on the same pictures, in people.

    Attributes:
        pictures: how many.
        before, now: mean absolute errors.
        mean: of the pictures' differences, now - before; below 0 is better.
        error: standard error of ``mean``; infinite of a single picture.
    """

    pictures: int
    before: float
    now: float
    mean: float
    error: float

    @classmethod
    def of(cls, before: np.ndarray, now: np.ndarray) -> Change:
        """That from absolute errors ``before`` [N] to those ``now`` [N].

        >>> print(Change.of(np.array([4.0, 2.0, 3.0]), np.array([2.0, 1.0, 3.0])))
        mean absolute error 3.00 -> 2.00 on 3 pictures, a change of -1.00 +- 0.58
        """
        change = now - before
        error = float(change.std(ddof=1) / math.sqrt(len(change))) if len(change) > 1 else math.inf
        return cls(len(change), float(before.mean()), float(now.mean()), float(change.mean()), error)

    @property
    def is_better(self) -> bool:
        """Whether the errors fell beyond twice the standard error."""
        return self.mean < 0 and self.mean <= -_BEYOND * self.error

    @property
    def is_worse(self) -> bool:
        """Whether the errors rose beyond twice the standard error."""
        return self.mean > 0 and self.mean >= _BEYOND * self.error

    def __str__(self) -> str:
        errors = f"mean absolute error {self.before:.2f} -> {self.now:.2f} on {self.pictures} pictures"
        return f"{errors}, a change of {self.mean:+.2f} +- {self.error:.2f}"


def count_errors(network: CrowdNetwork, samples: Sequence[Sample], rule: CountingRule, steps: int) -> np.ndarray:
    """Absolute errors [N] of the counts that ``network`` makes of ``samples`` in ``steps`` steps."""
    readings = read_pictures(network, samples, [steps])[steps]
    return np.array([abs(count(reading, rule) - reading.true) for reading in readings], float)


def count(reading: Reading, rule: CountingRule) -> int:
    """People that ``rule`` makes of what the network says of a picture."""
    is_gated = reading.scores.max(initial=0) < rule.gate
    return 0 if is_gated else count_ungated(reading.scores, reading.expected, rule)
