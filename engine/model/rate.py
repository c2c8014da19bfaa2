"""The encoder's rate: heads that it expects in each block, plain or as a zero-inflated Poisson distribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.model.layers import ConvNorm


@dataclass(frozen=True)
class BinnedCounts:
    """What is expected of each 16x16 block.

    Attributes:
        gate: float32 [B, 1, h, w], logit of the probability that a block can hold heads at all.
        bins: float32 [B, K, h, w], logits of the classes of its count.
        centres: float32 [K], heads in a block of each class.
    """

    gate: Tensor
    bins: Tensor
    centres: Tensor

    def rate(self) -> Tensor:
        """Heads that a block has where it is not empty: [B, 1, h, w]."""
        return (self.bins.softmax(dim=1) * self.centres[:, None, None]).sum(dim=1, keepdim=True)

    def expected(self) -> Tensor:
        """Heads that a block is expected to have: [B, 1, h, w]."""
        return self.gate.sigmoid() * self.rate()


class PlainRate(nn.Module):
    """A positive number for each block.

    Shapes: features [B, F, H/8, W/8] -> float32 [B, 1, H/8, W/8].
    """

    def __init__(self, features: int):
        super().__init__()
        self.hidden = ConvNorm(features, 32, kernel=1)
        self.out = nn.Conv2d(32, 1, 1)
        # softplus(-3) = 0.05 heads a block: near the mean of crowd pictures, so training starts calm.
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, -3.0)

    def forward(self, features: Tensor) -> Tensor:
        return F.softplus(self.out(self.hidden(features)).float())

    def expected(self, features: Tensor) -> Tensor:
        """The heads that each block is expected to have: the rate itself."""
        rate: Tensor = self(features)
        return rate


class BinnedRate(nn.Module):
    """Probability that a 16x16 block is not empty, times the mean of the classes of its count.

    Source: ZIP (2025): blockwise classification under a zero-inflated Poisson likelihood.

    Shapes: features [B, F, H/8, W/8] -> logits, float32 [B, 1 + K, H/16, W/16], of which :meth:`counts` makes sense.
    """

    centres: Tensor

    def __init__(self, features: int, centres: tuple[float, ...]):
        super().__init__()
        self.hidden = ConvNorm(features, features, stride=2)
        self.out = nn.Conv2d(features, 1 + len(centres), 1)
        self.register_buffer("centres", torch.tensor(centres), persistent=False)
        # One block in seven of crowd pictures is not empty, and most of those hold one head: training starts calm.
        assert self.out.bias is not None
        with torch.no_grad():
            self.out.bias.zero_()
            self.out.bias[0] = -2.0
            self.out.bias[1] = 2.0

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.out(self.hidden(features)).float()
        return logits

    def counts(self, logits: Tensor) -> BinnedCounts:
        """The logits by what they are."""
        gate, bins = logits.split([1, len(self.centres)], dim=1)
        return BinnedCounts(gate, bins, self.centres)

    def expected(self, features: Tensor) -> Tensor:
        """The heads that each 16x16 block is expected to have: [B, 1, H/16, W/16]."""
        return self.counts(self(features)).expected()


def make_rate(features: int, centres: tuple[float, ...]) -> PlainRate | BinnedRate:
    """A rate made of ``features`` channels, in classes of counts with these ``centres`` if there are any."""
    return BinnedRate(features, centres) if centres else PlainRate(features)
