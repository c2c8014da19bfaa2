"""The convolution blocks that encoder and decoder are built from."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine.model.depthwise import depthwise_convolution


class ConvNorm(nn.Module):
    """Convolution with an odd kernel, batch norm and an activation.

    Shapes: [B, inputs, H, W] -> [B, outputs, H / stride, W / stride], for H and W that are multiples of ``stride``.

    Args:
        activation: "relu", "relu6" or "none".
        eps: of the batch norm.
        same: pad as TensorFlow's SAME does: at stride 2 of even sizes, one pixel less above and on the left than below
            and on the right. PyTorch's own padding is the same on both sides.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: str = "relu",
        eps: float = 1e-5,
        same: bool = False,
    ):
        super().__init__()
        shifted = same and stride > 1
        self.pad = ((kernel - stride) // 2, (kernel - stride + 1) // 2) * 2 if shifted else None
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, 0 if shifted else kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, eps)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        if self.pad:
            x = F.pad(x, self.pad)
        x = self._fixed(x) if self.has_fixed_statistics else self.norm(self.conv(x))
        if self.activation == "none":
            return x
        return F.relu6(x) if self.activation == "relu6" else F.relu(x)

    @property
    def has_fixed_statistics(self) -> bool:
        """Whether it is being trained with the norm's statistics as they are (:func:`fix_statistics`)."""
        return self.training and isinstance(self.norm, nn.BatchNorm2d) and not self.norm.training

    def _fixed(self, x: Tensor) -> Tensor:
        # The norm goes into the filters, which are small; the output, which is not, is written once.
        assert isinstance(self.norm, nn.BatchNorm2d)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        scale = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
        bias = self.norm.bias - self.norm.running_mean * scale
        weight = self.conv.weight * scale[:, None, None, None]
        if self.conv.groups > 1 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            stride, padding = self.conv.stride[0], int(self.conv.padding[0])
            return depthwise_convolution(x.to(kind), weight.to(kind), bias.to(kind), stride, padding)
        return F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding, groups=self.conv.groups)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity (ResNet's basic block)."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = ConvNorm(channels, channels)
        self.second = ConvNorm(channels, channels, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def channels_last(module: ModuleT) -> ModuleT:
    """Lay the weights of ``module`` out as convolutions like them best; returns ``module``."""
    # nn.Module.to takes memory_format, but its type hints do not say so.
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def fix_statistics(module: nn.Module) -> None:
    """Let every batch norm of ``module``, which is in training mode, keep its mean and variance."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


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
