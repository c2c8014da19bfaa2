"""What a picture looks like as a whole: how far it is from those that the model was made for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import COMPONENTS


class Signature(nn.Module):
    """The mean features of a picture, in the whitened principal components of each domain of the training data.

    Shapes: map [B, C, h, w] -> float32 [B, domains * COMPONENTS]. The root mean square over a domain's components is 1
    on average for pictures of it: Mahalanobis distance (Lee et al., NeurIPS 2018) in the components that matter.

    The statistics are no parameters: calibration sets them, once the weights are trained. Until then they are zero.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int, domains: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(domains * COMPONENTS, channels))
        self.register_buffer("bias", torch.zeros(domains * COMPONENTS))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x)
        return F.linear(x.float().mean(dim=(2, 3)), self.weight, self.bias)


class Likeness(nn.Module):
    """Whether a picture is one of those that a model was fine-tuned on, or of the domains that it was trained on.

    Shapes: signature [B, domains * COMPONENTS] -> [B, 1, 1, 1], the probability of the former.

    The linear discriminant of Fisher (1936), between the mean signature m of the former and each domain's, which is 0:
    the variance of whitened components being 1, the logarithm of the ratio of densities is m s - m m / 2.

    Like the signature's statistics, m is no parameter. Until :meth:`set_mean` it is zero, and nothing tells the former
    from any domain.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, domains: int):
        super().__init__()
        # Of the classes' logits: first of the pictures that the model was fine-tuned on, then of each domain.
        self.register_buffer("weight", torch.zeros(1 + domains, domains * COMPONENTS))
        self.register_buffer("bias", torch.zeros(1 + domains))

    def set_mean(self, mean: Tensor) -> None:
        """Set the mean signature [domains * COMPONENTS] of the pictures that the model was fine-tuned on."""
        parts = list(mean.split(COMPONENTS))
        # As a bundle has them, in float16.
        self.weight[1:] = -torch.block_diag(*parts).half()
        self.bias[1:] = torch.stack([part.square().sum() / 2 for part in parts]).half()

    def forward(self, signature: Tensor) -> Tensor:
        logits = F.linear(signature, self.weight, self.bias)[:, :, None, None]
        own, _ = logits.softmax(dim=1).split([1, len(self.bias) - 1], dim=1)
        return own
