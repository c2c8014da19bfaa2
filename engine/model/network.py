"""Encoder and decoder together, and the fold between head map and latent."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.model.decoder import Decoder
from engine.model.encoder import Encoder


class CrowdNetwork(nn.Module):
    """The whole model; its two halves are called and exported apart."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def fold(self, heatmap: Tensor) -> Tensor:
        """Space to depth: head map [B, 1, H/2, W/2] -> latent [B, L, H/8, W/8]."""
        return F.pixel_unshuffle(heatmap, FEATURE_STRIDE // self.config.map_stride)

    def unfold(self, latent: Tensor) -> Tensor:
        """Depth to space: latent [B, L, H/8, W/8] -> head map [B, 1, H/2, W/2]."""
        return F.pixel_shuffle(latent, FEATURE_STRIDE // self.config.map_stride)
