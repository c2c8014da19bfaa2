"""A smoothed stem against smoothing the picture."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.model.network import CrowdNetwork
from engine.training.smooth import NEIGHBOUR_SHARE, smooth_stem


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("share", [0.0, 0.09, 0.25])
def test_it_computes_of_a_picture_what_the_old_one_does_of_the_smoothed(kernel, share):
    torch.manual_seed(0)
    network = CrowdNetwork(ModelConfig(widths=(8, 8, 8, 16, 16), features=16, stem_kernel=kernel)).eval()
    # A border of zeros: what lies outside is the same then, smoothed or not.
    image = F.pad(torch.randn(2, 3, 64, 96), (16, 16, 16, 16))
    kernels = torch.tensor([share, 1 - 2 * share, share])
    smoothed = image.clone()
    for axis in (2, 3):
        neighbours = smoothed.roll(1, axis) + smoothed.roll(-1, axis)
        smoothed = kernels[1] * smoothed + kernels[0] * neighbours
    with torch.inference_mode():
        expected, found = network.encoder(smoothed), smooth_stem(network, share).encoder(image)
    for theirs, ours in zip(expected, found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.equal(smoothed, image) or share == 0


def test_the_rest_of_the_network_stays():
    network = CrowdNetwork(ModelConfig(widths=(8, 8, 8, 16, 16), features=16))
    smoothed = smooth_stem(network)
    assert smoothed.config.stem_kernel == 5
    assert smoothed.training
    old, new = network.state_dict(), smoothed.state_dict()
    assert old.keys() == new.keys()
    changed = [name for name in old if old[name].shape != new[name].shape or not torch.equal(old[name], new[name])]
    assert changed == ["encoder.stride2.0.conv.weight"]
    # Light is neither lost nor made.
    name = changed[0]
    torch.testing.assert_close(new[name].sum(dim=(2, 3)), old[name].sum(dim=(2, 3)))


def test_the_blur_is_that_of_interpolating_at_a_random_place():
    # Between two pixels at a fraction u: weights 1 - u and u, of variance u (1 - u), over u in [0, 1].
    fractions = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    assert pytest.approx(float((fractions * (1 - fractions)).mean()), abs=0.03) == 2 * NEIGHBOUR_SHARE
