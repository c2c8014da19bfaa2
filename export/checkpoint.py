"""A training checkpoint made ready for export: averaged weights, norms folded, values float16."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from engine.config import CountingRule
from engine.errors import ConfigError
from engine.model.checkpoint import load_counting, load_network
from engine.model.layers import fold_norms
from engine.model.network import CrowdNetwork


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint gives to an export.

    Attributes:
        network: norm-folded, in eval mode; float32 weights whose values are all float16 numbers.
        counting: calibrated rules by number of steps; empty before calibration.
    """

    network: CrowdNetwork
    counting: dict[int, CountingRule]


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint written by training and prepare its averaged weights.

    Errors: ConfigError when the file is not such a checkpoint.
    """
    return Checkpoint(prepare(load_network(Path(path))), load_counting(Path(path)))


def prepare(network: CrowdNetwork) -> CrowdNetwork:
    """Fold the norms of ``network`` and round its weights to float16 numbers, in place.

    The weights stay float32: PyTorch then computes with the very values that the bundle stores.
    """
    fold_norms(network).requires_grad_(False)
    for name, tensor in network.state_dict().items():
        rounded = tensor.half()
        if not torch.isfinite(rounded).all():
            raise ConfigError(f"{name}: weights up to {tensor.abs().max():g} do not fit float16; train again")
        tensor.copy_(rounded)
    return network
