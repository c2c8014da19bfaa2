"""Decoders that the shipped one is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.config import ModelConfig
from engine.model.attention import criss_cross_attention
from engine.model.decoder import Decoder


class RegressionDecoder(Decoder):
    """The same network without diffusion: it sees no noisy map, and answers in one pass."""

    def forward(self, features: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return super().forward(features, torch.zeros_like(x_t), torch.ones_like(t))


class CrossAttentionDecoder(Decoder):
    """Sees the features only through attention: queries from the noisy map, keys and values from the features.

    As latent diffusion conditions on images, with criss-cross attention in place of full attention; two passes
    reach every pixel.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        width, dim = config.decoder_width, config.attention_dim
        self.merge = nn.Conv2d(config.latent_channels, width, 1)
        self.query = nn.ModuleList(nn.Conv2d(width, dim, 1) for _ in range(2))
        self.key_value = nn.ModuleList(nn.Conv2d(config.features, dim + width, 1) for _ in range(2))
        self.logit_scale = dim**-0.5

    def forward(self, features: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        x = self.merge(x_t.to(features.dtype))
        for query, key_value in zip(self.query, self.key_value, strict=True):
            q = query(x) * self.logit_scale
            k, v = key_value(features).split([q.shape[1], x.shape[1]], dim=1)
            attended = criss_cross_attention(*(a.permute(0, 2, 3, 1).contiguous() for a in (q, k, v)))
            x = x + attended.permute(0, 3, 1, 2)
        return self.estimate(x, t)
