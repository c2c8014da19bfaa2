"""Attention's logits while training: never larger than the limit, and nothing else is touched."""

from __future__ import annotations

import copy

import pytest
import torch

from engine.config import ModelConfig
from engine.model.attention import CrissCrossAttention, log_length
from engine.model.network import CrowdNetwork
from engine.training.logit_limit import limit_logits

MODEL = ModelConfig(crop_size=64)


def network(factor: float) -> CrowdNetwork:
    """One whose queries and keys are ``factor`` times as long as others'."""
    torch.manual_seed(0)
    made = CrowdNetwork(MODEL).eval()
    for layer in attentions(made):
        with torch.no_grad():
            layer.query_key_value.weight[: 2 * layer.dim] *= factor
    return made


def attentions(made: CrowdNetwork) -> list[CrissCrossAttention]:
    return [layer for layer in made.modules() if isinstance(layer, CrissCrossAttention)]


def largest_logits(made: CrowdNetwork, pixels: torch.Tensor) -> list[float]:
    """Of each call of each attention, pixel by pixel along its row and its column, in float64."""
    found = []

    def look(layer: CrissCrossAttention, inputs: tuple[torch.Tensor, ...]) -> None:
        packed = layer.query_key_value(inputs[0]).double()
        q, k = packed[:, : layer.dim], packed[:, layer.dim : 2 * layer.dim]
        logits = [
            (q[..., i, j, None, None] * part).sum(dim=1).abs().max()
            for i in range(q.shape[2])
            for j in range(q.shape[3])
            for part in (k[:, :, i : i + 1, :], k[:, :, :, j : j + 1])
        ]
        found.append(float(max(logits) * layer.scale * log_length(packed)))

    handles = [layer.register_forward_pre_hook(look) for layer in attentions(made)]
    with torch.no_grad():
        features, *_ = made.encoder(pixels)
        noise = torch.randn((len(pixels), MODEL.latent_channels, *features.shape[2:]), generator=torch.manual_seed(0))
        made.decoder(features, noise, torch.ones(len(pixels)))
    for handle in handles:
        handle.remove()
    return found


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_large_logits_come_down_to_the_limit(pixels: torch.Tensor) -> None:
    made, other = network(60.0), network(60.0)
    before = largest_logits(made, pixels)
    assert max(before) > 30
    assert limit_logits([made, other], pixels, limit=5.0) == pytest.approx(max(before), rel=1e-4)
    # Gamma is 0 at the start, so that no layer's input depends on the one before.
    assert max(largest_logits(made, pixels)) == pytest.approx(5.0, rel=1e-4)
    for name, value in made.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    fresh = network(60.0)
    for layer, old in zip(attentions(made), attentions(fresh), strict=True):
        packed, of_old = layer.query_key_value, old.query_key_value
        # Values stay, and queries and keys get the same factor.
        assert torch.equal(packed.weight[2 * layer.dim :], of_old.weight[2 * layer.dim :])
        factor = packed.weight[: 2 * layer.dim] / of_old.weight[: 2 * layer.dim]
        assert factor.min() == pytest.approx(float(factor.max()), rel=1e-5)
        assert packed.bias[: layer.dim].tolist() == pytest.approx((of_old.bias[: layer.dim] * factor.mean()).tolist())


def test_small_logits_stay_as_they_are(pixels: torch.Tensor) -> None:
    made = network(1.0)
    before = copy.deepcopy(made.state_dict())
    assert 0 < limit_logits([made], pixels) < 30
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
