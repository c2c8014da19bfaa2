"""The convolution blocks that encoder and decoder are built from."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvNorm(nn.Module):
    """Convolution with an odd kernel, batch norm and, unless ``relu=False``, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.relu else x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity (ResNet's basic block)."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def channels_last(module: ModuleT) -> ModuleT:
    """Lay the weights of ``module`` out as convolutions like them best; returns ``module``."""
    # nn.Module.to takes memory_format, but its type hints do not say so.
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def fold_norms(module: ModuleT) -> ModuleT:
    """Fold every batch norm of ``module`` into its convolution, in place; returns ``module`` in eval mode.

    The result computes the same function; its convolutions have biases and its norms are identities.
    """
    module.eval()
    for layer in module.modules():
        if isinstance(layer, ConvNorm) and isinstance(layer.norm, nn.BatchNorm2d):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.norm)
            layer.norm = nn.Identity()
    return module
