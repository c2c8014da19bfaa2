"""Other crowd counters as architectures in PyTorch: the published layers with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_POOL = "pool"
_VGG16 = [64, 64, _POOL, 128, 128, _POOL, 256, 256, 256, _POOL, 512, 512, 512]
_VGG19 = [64, 64, _POOL, 128, 128, _POOL, *[256] * 4, _POOL, *[512] * 4, _POOL, *[512] * 4]


def build(name: str) -> nn.Module:
    """The network called ``name``, one of :data:`NETWORKS`, in eval mode: image [B, 3, H, W] -> map or points."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def _layers(
    plan: list[int | str], inputs: int = 3, kernel: int = 3, dilation: int = 1, norm: bool = False
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for outputs in plan:
        if isinstance(outputs, str):
            layers.append(nn.MaxPool2d(2))
            continue
        padding = kernel // 2 * dilation
        layers.append(nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation))
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    return layers


def csrnet() -> nn.Module:
    """CSRNet B (CVPR 2018): the first ten convolutions of VGG-16, then six dilated by 2, at stride 8."""
    dilated = _layers([512, 512, 512, 256, 128, 64], inputs=512, dilation=2)
    return nn.Sequential(*_layers(_VGG16), *dilated, nn.Conv2d(64, 1, 1))


class DMCount(nn.Module):
    """DM-Count (NeurIPS 2020): VGG-19 without its last pool, doubled to stride 8, and a small head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_layers(_VGG19))
        self.head = nn.Sequential(*_layers([256, 128], inputs=512), nn.Conv2d(128, 1, 1), nn.ReLU(inplace=True))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(F.interpolate(self.features(image), scale_factor=2, mode="bilinear", align_corners=True))


class MCNN(nn.Module):
    """MCNN (CVPR 2016): three columns with large, middle and small kernels, at stride 4."""

    def __init__(self) -> None:
        super().__init__()
        columns = [((9, 7), (16, 32, 16, 8)), ((7, 5), (20, 40, 20, 10)), ((5, 3), (24, 48, 24, 12))]
        self.columns = nn.ModuleList(self._column(*kernels, *widths) for kernels, widths in columns)
        self.merge = nn.Conv2d(8 + 10 + 12, 1, 1)

    @staticmethod
    def _column(first: int, rest: int, *widths: int) -> nn.Sequential:
        return nn.Sequential(
            *_layers([widths[0], _POOL], kernel=first),
            *_layers([widths[1], _POOL, *widths[2:]], inputs=widths[0], kernel=rest),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.merge(torch.cat([column(image) for column in self.columns], dim=1))


class MobileCount(nn.Module):
    """MobileCount x2 (Neurocomputing 2020): four stages of MobileNetV2's bottlenecks and light-weight RefineNet.

    Args:
        widths: of the stages, at strides 4, 8, 16 and 32; those of the variant called x2.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512)):
        super().__init__()
        self.stem = nn.Sequential(*_conv_norm(3, widths[0], 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        inputs = [widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                _Bottleneck(inputs[i], widths[i], expansion=6 if i else 1, stride=2 if i else 1),
                *(_Bottleneck(widths[i], widths[i], expansion=6 if i else 1) for _ in range(i)),
            )
            for i in range(4)
        )
        # The deepest level has its own width, the others one.
        narrow, deep = 64, 128
        self.deepest = nn.Conv2d(widths[3], deep, 1, bias=False)
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, narrow, 1, bias=False), nn.Conv2d(narrow, narrow, 1, bias=False))
            for w in widths[2::-1]
        )
        self.pools = nn.ModuleList(_ChainedPool(w) for w in (deep, narrow, narrow, narrow))
        self.ups = nn.ModuleList(nn.Conv2d(w, narrow, 1, bias=False) for w in (deep, narrow, narrow))
        self.out = nn.Conv2d(narrow, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x, levels = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        x = self.pools[0](F.relu(self.deepest(levels[3])))
        for up, lateral, pool, level in zip(self.ups, self.laterals, self.pools[1:], levels[2::-1], strict=True):
            x = F.interpolate(up(x), size=level.shape[2:], mode="bilinear")
            x = pool(F.relu(lateral(level) + x))
        return F.interpolate(self.out(x), size=image.shape[2:], mode="bilinear")


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int = 1):
        super().__init__()
        hidden = inputs * expansion
        self.body = nn.Sequential(
            *_conv_norm(inputs, hidden, 1),
            nn.ReLU(inplace=True),
            *_conv_norm(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.ReLU(inplace=True),
            *_conv_norm(hidden, outputs, 1),
        )
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(*_conv_norm(inputs, outputs, 1, stride=stride)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class _ChainedPool(nn.Module):
    """Light-weight RefineNet's chained residual pooling: four times a 5x5 maximum and a 1x1 convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.links = nn.ModuleList(
            nn.Sequential(nn.MaxPool2d(5, 1, 2), nn.Conv2d(width, width, 1, bias=False)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        top = x
        for link in self.links:
            top = link(top)
            x = x + top
        return x


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class P2PNet(nn.Module):
    """A network of P2PNet's size (ICCV 2021): VGG-16 with norms, two levels merged at stride 8, two heads of 4 points.

    Its code also computes a level at stride 4 that no output uses; it is left out here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_stride8 = nn.Sequential(*_layers(_VGG16, norm=True))
        self.to_stride16 = nn.Sequential(nn.MaxPool2d(2), *_layers([512, 512, 512], inputs=512, norm=True))
        self.lateral16, self.lateral8 = nn.Conv2d(512, 256, 1), nn.Conv2d(512, 256, 1)
        self.smooth = nn.Conv2d(256, 256, 3, padding=1)
        self.points, self.scores = (
            nn.Sequential(*_layers([256, 256], inputs=256), nn.Conv2d(256, 8, 3, padding=1)) for _ in range(2)
        )

    def forward(self, image: Tensor) -> Tensor:
        at8 = self.to_stride8(image)
        up = F.interpolate(self.lateral16(self.to_stride16(at8)), scale_factor=2.0, mode="nearest")
        merged = self.smooth(self.lateral8(at8) + up)
        return torch.cat([self.points(merged) * 100, self.scores(merged)], dim=1)


class ZIPNano(nn.Module):
    """ZIP-N (2025): MobileNetV4-conv-small, doubled to stride 16, one 3x3 convolution and two heads of blocks' counts.

    The trunk is that of its paper (ECCV 2024, table of MNv4-Conv-S). Of what lies behind it, the sizes are published,
    3.36 M parameters and 24.7 GMAC for a picture of 1920x1080; 240 channels give these.
    """

    def __init__(self, bins: int = 5) -> None:
        super().__init__()
        stem = [_conv_norm(3, 32, 3, 2), _conv_norm(32, 32, 3, 2), _conv_norm(32, 32, 1), _conv_norm(32, 96, 3, 2)]
        stem.append(_conv_norm(96, 64, 1))
        layers = [layer for conv in stem for layer in (*conv, nn.ReLU(inplace=True))]
        inputs = 64
        for start, kernel, stride, expansion, outputs in self._BLOCKS:
            layers.append(_UniversalBottleneck(inputs, outputs, start, kernel, stride, expansion))
            inputs = outputs
        self.trunk = nn.Sequential(*layers, *_conv_norm(inputs, 960, 1), nn.ReLU(inplace=True))
        decoder = [*_conv_norm(960, 240, 3), nn.ReLU(inplace=True), *_conv_norm(240, 96, 1), nn.ReLU(inplace=True)]
        self.decoder = nn.Sequential(*decoder)
        self.empty, self.classes = nn.Conv2d(96, 2, 1), nn.Conv2d(96, bins, 1)
        self.register_buffer("centres", torch.arange(1.0, bins + 1)[:, None, None])

    # Kernel of the depthwise convolution before the expansion and of the one within (0: none), stride, expansion,
    # channels.
    _BLOCKS = (
        (5, 5, 2, 3, 96), *[(0, 3, 1, 2, 96)] * 4, (3, 0, 1, 4, 96),
        (3, 3, 2, 6, 128), (5, 5, 1, 4, 128), (0, 5, 1, 4, 128), (0, 5, 1, 3, 128), *[(0, 3, 1, 4, 128)] * 2,
    )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        features = self.decoder(F.interpolate(self.trunk(image), scale_factor=2.0, mode="bilinear"))
        rate = (self.classes(features).softmax(1) * self.centres).sum(1, keepdim=True)
        return self.empty(features).softmax(1)[:, 1:] * rate


class _UniversalBottleneck(nn.Module):
    """MobileNetV4's block: an inverted bottleneck with depthwise convolutions before the expansion, within, or both."""

    def __init__(self, inputs: int, outputs: int, start: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        # Where there are both, the inner one strides.
        layers = _conv_norm(inputs, inputs, start, 1 if kernel else stride, inputs) if start else []
        layers += [*_conv_norm(inputs, hidden, 1), nn.ReLU(inplace=True)]
        if kernel:
            layers += [*_conv_norm(hidden, hidden, kernel, stride, hidden), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, *_conv_norm(hidden, outputs, 1))
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.has_shortcut else self.body(x)


NETWORKS = {
    "CSRNet": csrnet,
    "DM-Count": DMCount,
    "MCNN": MCNN,
    "MobileCount x2": MobileCount,
    "P2PNet": P2PNet,
    "ZIP-N": ZIPNano,
}
