"""Layers that are not trained: the same as in PyTorch, whatever the size, and in memory of their own."""

from __future__ import annotations

import pytest
import torch

from engine.model.precision import has_bfloat16
from engine.model.trunk import EfficientNetLite
from engine.training.frozen_layers import FrozenLayers


@pytest.fixture(scope="module")
def trunk() -> EfficientNetLite:
    torch.manual_seed(0)
    trunk = EfficientNetLite()
    for name, x in trunk.named_buffers():
        if name.endswith("running_mean"):
            x.normal_(0, 0.1)
        elif name.endswith("running_var"):
            x.uniform_(0.5, 2)
    return trunk.eval()


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without instructions for bfloat16, so that nothing but the order of sums differs from PyTorch."""
    monkeypatch.setattr("engine.training.frozen_layers.has_bfloat16", lambda: False)


@torch.no_grad()
def test_they_compute_what_pytorch_does(trunk) -> None:
    frozen, kept = FrozenLayers(trunk.early), []
    for shape in ((2, 3, 64, 64), (1, 3, 32, 96), (2, 3, 64, 64)):
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        expected = trunk.early(x)
        found = frozen(x)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
        kept.append((found, expected))
    # A later call does not write over what an earlier one gave.
    for found, expected in kept:
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.skipif(not has_bfloat16(), reason="this CPU has no instructions for bfloat16")
@torch.no_grad()
def test_in_bfloat16_they_are_as_near_as_pytorch_is(trunk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.frozen_layers.has_bfloat16", lambda: True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = trunk.early(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = trunk.early(x).float()
        found = FrozenLayers(trunk.early)(x)
    assert found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 2 * (rounded - expected).norm()


def test_in_training_they_stand_for_the_trunks_own(trunk) -> None:
    x = torch.randn(2, 3, 64, 64)
    trunk.train().early.requires_grad_(False)
    try:
        own = [y.detach() for y in trunk(x)]
        trunk.frozen_early = FrozenLayers(trunk.early)
        for found, expected in zip(trunk(x), own, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))
        sum(y.square().mean() for y in trunk(x)).backward()
        assert trunk.at8[0].expand.conv.weight.grad.any()
        assert all(parameter.grad is None for parameter in trunk.early.parameters())
        # In evaluation, the layers themselves.
        trunk.frozen_early = None
        expected = trunk.eval()(x)
        trunk.frozen_early = FrozenLayers(torch.nn.Identity())
        for found, own in zip(trunk(x), expected, strict=True):
            assert torch.equal(found, own)
    finally:
        trunk.frozen_early = None
        trunk.eval()
