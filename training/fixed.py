"""Layers that stay as they are for a whole run, so that few pictures cannot spoil them."""

from __future__ import annotations

from engine.model.encoder import Encoder
from engine.model.layers import fix_statistics
from engine.model.network import CrowdNetwork
from engine.training.frozen_layers import FrozenLayers

# What of a network may stay as it is.
FIXED = ("nothing", "trunk", "all_but_rate")
_STAGES = ("trunk", "stride2", "stride4", "stride8", "stride16", "stride32")


def fix_layers(network: CrowdNetwork, fixed: str) -> None:
    """Let a training step of ``network``, which is in training mode, leave alone what ``fixed`` says.

    Args:
        fixed: "trunk" for the encoder's strided stages, pre-trained or plain; "all_but_rate" for all but the encoder's
            rate, the own one where it has one. Every norm keeps its statistics.
    """
    fix_statistics(network)
    encoder = network.encoder
    if fixed == "trunk":
        for name, part in encoder.named_children():
            part.requires_grad_(name not in _STAGES)
    else:
        network.requires_grad_(False)
        (encoder.own_rate if encoder.has_own_rate else encoder.rate).requires_grad_(True)
    _speed_up(encoder)


def _speed_up(encoder: Encoder) -> None:
    if encoder.has_trunk and encoder.trunk.frozen_early is None:
        early = encoder.trunk.early
        if next(early.parameters()).device.type == "cpu":
            encoder.trunk.frozen_early = FrozenLayers(early)
