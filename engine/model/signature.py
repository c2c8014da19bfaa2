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
