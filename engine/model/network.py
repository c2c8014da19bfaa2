"""Encoder and decoder together, and the fold between head map and latent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.model.decoder import Decoder
from engine.model.encoder import Encoder
from engine.model.signature import Signature


class CrowdNetwork(nn.Module):
    """The whole model; its two halves are called and exported apart."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def set_signature(self, domains: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Set the statistics of the encoder's signature.

        Args:
            domains: weight [COMPONENTS, C] and bias [COMPONENTS] of each domain; none makes every distance 0.
        """
        self.config = replace(self.config, domains=max(len(domains), 1))
        old = self.encoder.signature
        self.encoder.signature = Signature(old.weight.shape[1], self.config.domains).to(old.weight.device)
        for name, parts in zip(("weight", "bias"), zip(*domains, strict=True), strict=False):
            # As a bundle has them, in float16, so that rules are fitted to what they are used with.
            values = torch.from_numpy(np.concatenate(parts)).half()
            getattr(self.encoder.signature, name).copy_(values)

    def fold(self, heatmap: Tensor) -> Tensor:
        """Space to depth: head map [B, 1, H/2, W/2] -> latent [B, L, H/8, W/8]."""
        return F.pixel_unshuffle(heatmap, FEATURE_STRIDE // self.config.map_stride)

    def unfold(self, latent: Tensor) -> Tensor:
        """Depth to space: latent [B, L, H/8, W/8] -> head map [B, 1, H/2, W/2]."""
        return F.pixel_shuffle(latent, FEATURE_STRIDE // self.config.map_stride)
