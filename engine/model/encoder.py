"""The image encoder: runs once per picture and gives the condition of every denoising step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.model.attention import CrissCrossAttention
from engine.model.layers import ConvNorm, ResidualBlock
from engine.model.rate import BinnedRate, make_rate
from engine.model.signature import Likeness, Signature
from engine.model.trunk import EfficientNetLite


def _stage(inputs: int, outputs: int, depth: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(ConvNorm(inputs, outputs, kernel, stride=2), *(ResidualBlock(outputs) for _ in range(depth)))


def upsample(x: Tensor, is_training: bool) -> Tensor:
    """Each pixel of [B, C, H, W] twice in both directions: [B, C, 2 H, 2 W]."""
    if not is_training:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    # The same as a view: of interpolate's, a compiled backward pass of PyTorch 2.13 loses the gradient, without an
    # error (pytorch/pytorch#185509).
    batch, channels, height, width = x.shape
    doubled = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return doubled.reshape(batch, channels, 2 * height, 2 * width)


class Encoder(nn.Module):
    """Strided stages, five or, of a shorter trunk, four, and a feature pyramid folded to stride 8.

    Shapes: image [B, 3, H, W], normalised, with H and W multiples of 32 ->
    features [B, F, H/8, W/8], rate [B, 1, H/8, W/8], the expected heads in each 8x8 block, and the signature [B, S].

    The stages are plain ones, trained from random weights, or a pre-trained trunk (``config.trunk``). With
    ``config.own_rate`` a picture has a share of a second rate: as far as it is like those that the model was
    fine-tuned on.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.has_trunk = config.trunk != "none"
        if self.has_trunk:
            self.trunk = EfficientNetLite(config.trunk_blocks)
            (w4, w8, w16), deeper = self.trunk.channels[:3], self.trunk.channels[3:]
            neck = config.neck
            self.reduce16 = nn.Conv2d(w16, neck, 1)
        else:
            (w2, w4, w8, w16), deeper = config.widths[:4], config.widths[4:]
            d2, d4, d8, d16, d32 = config.depths
            self.stride2 = _stage(3, w2, d2, config.stem_kernel)
            self.stride4 = _stage(w2, w4, d4)
            self.stride8 = _stage(w4, w8, d8)
            self.stride16 = _stage(w8, w16, d16)
            self.stride32 = _stage(w16, deeper[0], d32)
            neck = w16
        features = config.features
        self.has_stride32 = bool(deeper)
        if self.has_stride32:
            self.lateral32 = nn.Conv2d(deeper[0], neck, 1)
        self.mix16 = nn.Sequential(*(ResidualBlock(neck) for _ in range(config.neck_blocks)))
        self.attention = CrissCrossAttention(neck, config.attention_dim, config.reference_length(16))
        self.attention_passes = config.encoder_attention_passes
        self.lateral16 = ConvNorm(neck, features, kernel=1)
        self.lateral8 = nn.Conv2d(w8, features, 1)
        # Stride 4 is folded into channels instead of pooled: dense crowds live there.
        self.lateral4 = nn.Conv2d(w4, features, 2, stride=2)
        self.smooth = ConvNorm(features, features)
        self.rate = make_rate(features, config.count_bins)
        self.signature = Signature(neck, config.domains)
        self.has_own_rate = config.own_rate
        if self.has_own_rate:
            self.own_rate = make_rate(features, config.count_bins)
            self.likeness = Likeness(config.domains)
        self.register_load_state_dict_pre_hook(_read_older)

    def forward(self, image: Tensor, raw: bool = False) -> tuple[Tensor, ...]:
        """Features, rate and signature.

        With ``raw``, features and the output of the rate that is trained, the own one if there is one: logits of binned
        counts, or a plain rate.
        """
        features, at16 = self._features(image)
        if raw:
            return features, (self.own_rate if self.has_own_rate else self.rate)(features)
        signature = self.signature(at16)
        heads = self.rate.expected(features)
        if self.has_own_rate:
            heads = heads + self.likeness(signature) * (self.own_rate.expected(features) - heads)
        if isinstance(self.rate, BinnedRate):
            # A quarter of a 16x16 block's heads in each of its cells.
            heads = upsample(0.25 * heads, self.training)
        return features, heads, signature

    def pool(self, image: Tensor) -> Tensor:
        """The mean features [B, C] that the signature is made of."""
        return self._features(image)[1].float().mean(dim=(2, 3))

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F, H/8, W/8], and the neck's map at stride 16 that they are made of."""
        at4, at8, at16, *at32 = self.trunk(image) if self.has_trunk else self._plain_stages(image)
        if self.has_trunk:
            at16 = self.reduce16(at16)
        if self.has_stride32:
            at16 = at16 + upsample(self.lateral32(*at32), self.training)
        at16 = self.mix16(F.relu(at16))
        for _ in range(self.attention_passes):
            at16 = self.attention(at16)
        merged = self.lateral8(at8) + self.lateral4(at4) + upsample(self.lateral16(at16), self.training)
        return self.smooth(F.relu(merged)), at16

    def _plain_stages(self, image: Tensor) -> tuple[Tensor, ...]:
        at4 = self.stride4(self.stride2(image))
        at8 = self.stride8(at4)
        at16 = self.stride16(at8)
        return at4, at8, at16, self.stride32(at16)


def _read_older(encoder: Encoder, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """A hook of ``load_state_dict``: takes weights from when the rate was called density and had no signature."""
    for old, new in (("density_hidden.", "rate.hidden."), ("density.", "rate.out.")):
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)
    for name, value in encoder.signature.state_dict(prefix=f"{prefix}signature.").items():
        state.setdefault(name, value)
