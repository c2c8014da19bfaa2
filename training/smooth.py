"""Smoothing what a network sees, within its first convolution."""

from __future__ import annotations

import dataclasses

import torch
from torch.nn import functional as F

from engine.model.network import CrowdNetwork

# The share of a pixel that each neighbour in its row and column gets. A crop cut at a random fraction of a pixel is
# interpolated between two, and so blurred about as much as this does: by a variance of 1/6 on average, and 3/16 here.
NEIGHBOUR_SHARE = 3 / 32
_STEM = "encoder.stride2.0.conv.weight"


def smooth_stem(network: CrowdNetwork, share: float = NEIGHBOUR_SHARE) -> CrowdNetwork:
    """A network that computes of a picture what ``network`` computes of the smoothed picture.

    Training resamples its crops, which blurs them a little; pictures that are counted are as sharp as they are. The
    filter ``[share, 1 - 2 * share, share]``, along rows and columns, makes these alike. Two convolutions after each
    other are one: the first one's filters [O, 3, K, K] become [O, 3, K + 2, K + 2], and the rest stays. Only at the
    picture's border the two differ, where zeros outside are smoothed with it.
    """
    line = torch.tensor([share, 1 - 2 * share, share], dtype=torch.float64)
    state = network.state_dict()
    filters = state[_STEM]  # [O, 3, K, K]
    # Each plane of each filter with the (symmetric) kernel, at every place where they overlap.
    planes = F.conv2d(filters.double().flatten(0, 1)[:, None], torch.outer(line, line)[None, None], padding=2)
    state[_STEM] = planes.unflatten(0, filters.shape[:2])[:, :, 0].to(filters.dtype)
    kernel = network.config.stem_kernel + 2
    smoothed = CrowdNetwork(dataclasses.replace(network.config, stem_kernel=kernel))
    smoothed.load_state_dict(state)
    return smoothed.train(network.training)
