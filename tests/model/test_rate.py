"""The binned rate: its expectation by hand, and as the encoder gives it."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from engine.config import ModelConfig  # noqa: E402
from engine.model.network import CrowdNetwork  # noqa: E402
from engine.model.rate import BinnedCounts  # noqa: E402


def test_the_expected_heads_are_the_gate_times_the_mean_of_the_classes() -> None:
    bins = torch.log(torch.tensor([0.5, 0.25, 0.25])).view(1, 3, 1, 1)
    counts = BinnedCounts(torch.full((1, 1, 1, 1), math.log(3)), bins, torch.tensor([1.0, 2.0, 4.0]))
    assert float(counts.rate()) == pytest.approx(2.0)
    # A logit of log 3 is a probability of 3/4.
    assert float(counts.expected()) == pytest.approx(1.5)


@torch.inference_mode()
def test_the_encoders_rate_spreads_each_block_over_its_four_cells() -> None:
    torch.manual_seed(0)
    model = ModelConfig(widths=(8, 8, 8, 16, 16), depths=(0,) * 5, features=16, count_bins=(1, 2, 5))
    encoder = CrowdNetwork(model).eval().encoder
    image = torch.randn(2, 3, 64, 96)
    rate = encoder(image)[1]
    counts = encoder.rate.counts(encoder(image, raw=True)[1])
    assert rate.shape == (2, 1, 8, 12)
    blocks = rate.view(2, 1, 4, 2, 6, 2).sum(dim=(3, 5))
    torch.testing.assert_close(blocks, counts.expected())
    assert torch.equal(rate[:, :, ::2, ::2], rate[:, :, 1::2, 1::2])
