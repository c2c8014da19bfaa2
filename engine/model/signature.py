"""What a picture looks like as a whole: how far it is from those that the model was made for."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.config import COMPONENTS

# Variance of the signatures of pictures of anywhere, where that of a domain's pictures is 1.
_ELSEWHERE = 16.0


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
    """The probability that a picture is of the place whose pictures a model was fine-tuned on.

    Shapes: signature [B, domains * COMPONENTS] -> float32 [B, 1, 1, 1].

    It is compared with each domain of the training data, in that domain's components: pictures of the place are normal
    around their mean m with a variance v, the same for all components; pictures of the domain around 0 with a variance
    of 1, as whitening made it; and pictures of anywhere else around 0 with a far larger one. So a picture that is far
    from all of them is of anywhere else. The classes are equally likely (discriminant analysis, Fisher, 1936).

    Like the signature's statistics, m and v are no parameters. Until :meth:`fit`, all classes are equally likely.
    """

    mean: Tensor
    own: Tensor
    square: Tensor
    bias: Tensor

    def __init__(self, domains: int):
        super().__init__()
        # Classes: the place; each domain; anywhere else, in the components of each domain.
        classes, components = 1 + 2 * domains, domains * COMPONENTS
        self.register_buffer("mean", torch.zeros(components))
        # What multiplies (s - m)^2 and s^2 in the logarithm of each class's density over that of the place.
        self.register_buffer("own", torch.zeros(classes, components))
        self.register_buffer("square", torch.zeros(classes, components))
        self.register_buffer("bias", torch.zeros(classes))

    def fit(self, signatures: Tensor) -> None:
        """Take m and v from signatures [N, domains * COMPONENTS] of pictures of the place."""
        # All as a bundle has it, in float16.
        self.mean.copy_(signatures.mean(dim=0).half())
        domains = len(self.mean) // COMPONENTS
        for domain in range(domains):
            part = slice(domain * COMPONENTS, (domain + 1) * COMPONENTS)
            # A domain of few pictures has fewer components, and zeros in place of others.
            components = max(int(signatures[:, part].any(dim=0).sum()), 1)
            squares = (signatures - self.mean)[:, part].square().sum(dim=1) / components
            # Few pictures vary less than the place does.
            variance = max(float(squares.mean()), 1.0)
            for row, other in ((1 + domain, 1.0), (1 + domains + domain, _ELSEWHERE)):
                self.own[row, part] = torch.tensor(0.5 / variance).half()
                self.square[row, part] = torch.tensor(-0.5 / other).half()
                self.bias[row] = torch.tensor(0.5 * components * math.log(variance / other)).half()

    def forward(self, signature: Tensor) -> Tensor:
        deviation = signature - self.mean
        logits = F.linear(deviation * deviation, self.own, self.bias) + F.linear(signature * signature, self.square)
        own, _ = logits[:, :, None, None].softmax(dim=1).split([1, len(self.bias) - 1], dim=1)
        return own
