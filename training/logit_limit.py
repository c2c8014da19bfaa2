"""Keeping the logits of attention small while training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.model.attention import CrissCrossAttention, log_length
from engine.model.network import CrowdNetwork

# A softmax over a row and a column is a choice of one pixel long before; in bfloat16, logits of 30 are exact to 1/16.
LIMIT = 30.0


@torch.no_grad()
def limit_logits(networks: list[CrowdNetwork], pixels: Tensor, limit: float = LIMIT) -> float:
    """Scale queries and keys down until no logit on ``pixels`` is larger than ``limit``.

    Nothing else holds them: the maps that they are made of have no norm, and Muon steps by a fixed length whatever
    the gradient is. Logits in the thousands make of attention a choice of one pixel, whose gradient is noise, as is
    that of all layers below. Filters of queries and of keys get half of the factor each, of which the output knows
    nothing but the softmax (QK-Clip: Kimi K2, 2025).

    Args:
        networks: scaled alike; the first is the one to look at, in eval mode and not compiled.
        pixels: float32 [B, 3, H, W], normalised.

    Returns:
        The largest logit found.
    """
    probe = networks[0]
    assert not probe.training
    largest = {name: 0.0 for name, _ in _attentions(probe)}
    handles = [
        layer.query_key_value.register_forward_hook(_watch(layer, name, largest)) for name, layer in _attentions(probe)
    ]
    try:
        features, *_ = probe.encoder(pixels)
        noise = torch.randn(
            (len(pixels), probe.config.latent_channels, *features.shape[2:]),
            generator=torch.Generator(pixels.device).manual_seed(0),
            device=pixels.device,
        )
        probe.decoder(features, noise, torch.ones(len(pixels), device=pixels.device))
    finally:
        for handle in handles:
            handle.remove()
    for name, found in largest.items():
        if found > limit:
            for network in networks:
                _scale(network.get_submodule(name), (limit / found) ** 0.5)
    return max(largest.values(), default=0.0)


def _attentions(network: nn.Module) -> list[tuple[str, CrissCrossAttention]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, CrissCrossAttention)]


def _watch(layer: CrissCrossAttention, name: str, largest: dict[str, float]) -> Callable[..., None]:
    def watch(_: nn.Module, __: tuple[Tensor, ...], packed: Tensor) -> None:
        q, k = (packed[:, i * layer.dim : (i + 1) * layer.dim].float().permute(0, 2, 3, 1) for i in range(2))
        rows = (q @ k.transpose(-1, -2)).abs().amax()
        columns = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).abs().amax()
        found = torch.maximum(rows, columns) * layer.scale * log_length(packed)
        largest[name] = max(largest[name], float(found))

    return watch


def _scale(layer: nn.Module, factor: float) -> None:
    assert isinstance(layer, CrissCrossAttention)
    assert layer.query_key_value.bias is not None
    # In place: the optimiser holds views of this memory.
    layer.query_key_value.weight[: 2 * layer.dim] *= factor
    layer.query_key_value.bias[: 2 * layer.dim] *= factor
