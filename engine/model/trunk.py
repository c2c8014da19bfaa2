"""EfficientNet-Lite: the part of the encoder that can start from weights trained on ImageNet.

Source: EfficientNet (ICML 2019) in its "lite" variant: no squeeze-and-excite, and ReLU6 in place of swish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from engine.config import TRUNK_BLOCKS
from engine.model.layers import ConvNorm, fix_statistics

# Of TensorFlow's batch norms, with which the weights were trained.
_EPS = 1e-3


@dataclass(frozen=True)
class Stage:
    """``depth`` inverted bottlenecks, the first with ``stride``, each with ``expansion`` times its channels inside."""

    depth: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Table 1 of the EfficientNet paper, for B0 and Lite0.
_AT4 = (Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24))
_AT8 = (Stage(2, 5, 2, 6, 40),)
_AT16 = (Stage(3, 3, 2, 6, 80), Stage(3, 5, 1, 6, 112))
_AT32 = (Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320))
_STEM = 32
# Blocks up to strides 8 and 16.
_BLOCKS_8, _BLOCKS_16 = 5, 11


class MobileBlock(nn.Module):
    """Inverted bottleneck (MobileNetV2): 1x1 up, depthwise, 1x1 down without activation; a shortcut if shapes agree.

    Shapes: [B, C, H, W] -> [B, C', H / stride, W / stride].
    """

    def __init__(self, inputs: int, stage: Stage, stride: int):
        super().__init__()
        hidden = inputs * stage.expansion
        self.expand: nn.Module = nn.Identity()
        if stage.expansion > 1:
            self.expand = ConvNorm(inputs, hidden, 1, activation="relu6", eps=_EPS)
        self.depthwise = ConvNorm(
            hidden, hidden, stage.kernel, stride, groups=hidden, activation="relu6", eps=_EPS, same=True
        )
        self.project = ConvNorm(hidden, stage.channels, 1, activation="none", eps=_EPS)
        self.outputs = stage.channels
        self.has_shortcut = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """The network without its classifier, or the first part of it.

    Shapes: image [B, 3, H, W], (pixel - 127) / 128, with H and W multiples of 32 -> maps at strides 4, 8, 16 and, where
    it has blocks there, 32.

    Args:
        blocks: how many of the 16 it has. The first 11 reach stride 16.

    Attributes:
        channels: of the maps.
    """

    def __init__(self, blocks: int = TRUNK_BLOCKS):
        super().__init__()
        stem = ConvNorm(3, _STEM, 3, 2, activation="relu6", eps=_EPS, same=True)
        at4, at8 = _blocks(_STEM, _AT4), _blocks(24, _AT8)
        at16 = _blocks(40, _AT16)[: blocks - _BLOCKS_8]
        at32 = _blocks(112, _AT32)[: max(blocks - _BLOCKS_16, 0)]
        self.early = nn.Sequential(stem, *at4)
        self.at8, self.at16, self.at32 = (nn.Sequential(*part) for part in (at8, at16, at32))
        self.channels = tuple(part[-1].outputs for part in (at4, at8, at16, at32) if part)

    # What stands for the layers before stride 4 in training, where a run does not train them; see
    # :mod:`engine.training.frozen_layers`.
    frozen_early: Callable[[Tensor], Tensor] | None = None

    def train(self, mode: bool = True) -> EfficientNetLite:
        """As of any module; but the norms keep the statistics that they came with, as is usual for fine-tuning."""
        super().train(mode)
        fix_statistics(self)
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        at4 = self.frozen_early(image) if self.training and self.frozen_early else self.early(image)
        at8 = self.at8(at4)
        at16 = self.at16(at8)
        return (at4, at8, at16, self.at32(at16)) if self.at32 else (at4, at8, at16)


def _blocks(inputs: int, stages: tuple[Stage, ...]) -> list[MobileBlock]:
    blocks = []
    for stage in stages:
        for number in range(stage.depth):
            blocks.append(MobileBlock(inputs, stage, stage.stride if number == 0 else 1))
            inputs = stage.channels
    return blocks
