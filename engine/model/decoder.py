"""The denoising decoder: one step from a noisy head map to an estimate of the clean one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.model.attention import CrissCrossAttention
from engine.model.layers import ConvNorm


class TimeEmbedding(nn.Module):
    """t and its sine and cosine at learned frequencies (DDP's embedding for continuous maps).

    Shapes: t [B] in [0, 1] -> [B, 2 * frequencies + 1].
    """

    def __init__(self, frequencies: int):
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(frequencies))

    def forward(self, t: Tensor) -> Tensor:
        phase = t[:, None] * self.frequencies * (2 * math.pi)
        return torch.cat([t[:, None], phase.sin(), phase.cos()], dim=1)


class TimedBlock(nn.Module):
    """Pre-activation residual 3x3 block whose output is scaled and shifted by the time embedding."""

    def __init__(self, channels: int, time_channels: int):
        super().__init__()
        self.conv = ConvNorm(channels, channels, activation="none")
        self.scale_shift = nn.Linear(time_channels, 2 * channels)
        nn.init.zeros_(self.scale_shift.weight)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.scale_shift(time)[:, :, None, None].to(x.dtype).chunk(2, dim=1)
        return x + self.conv(F.relu(x)) * (1 + scale) + shift


class Decoder(nn.Module):
    """Estimates the clean latent map x_0 from features, the noisy map x_t and the time t.

    Shapes: features [B, F, h, w], x_t [B, L, h, w], t [B] -> x_0 [B, L, h, w], not clamped.
    The latent folds an (8 / map_stride)^2 patch of the head map into L channels, scaled to -b .. b.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, latent = config.decoder_width, config.latent_channels
        self.map_scale = config.map_scale
        self.merge = nn.Conv2d(config.features + latent, width, 1)
        self.embed = TimeEmbedding(config.time_frequencies)
        self.time = nn.Linear(2 * config.time_frequencies + 1, width)
        self.blocks = nn.ModuleList(TimedBlock(width, width) for _ in range(config.decoder_blocks))
        self.attention = CrissCrossAttention(width, config.attention_dim, config.reference_length(8))
        self.attention_passes = config.decoder_attention_passes
        self.out = nn.Conv2d(width, latent, 1)
        # Starts as an almost empty map.
        nn.init.zeros_(self.out.weight)
        assert self.out.bias is not None
        nn.init.constant_(self.out.bias, 0.02)

    def forward(self, features: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self.estimate(self.merge(torch.cat([features, x_t.to(features.dtype)], dim=1)), t)

    def estimate(self, x: Tensor, t: Tensor) -> Tensor:
        """x_0 from what noisy map and features were merged into, [B, C, h, w]."""
        time = F.silu(self.time(self.embed(t)))
        half = len(self.blocks) // 2
        for block in self.blocks[:half]:
            x = block(x, time)
        for _ in range(self.attention_passes):
            x = self.attention(x)
        for block in self.blocks[half:]:
            x = block(x, time)
        heatmap = self.out(F.relu(x)).float()
        return (2 * heatmap - 1) * self.map_scale
