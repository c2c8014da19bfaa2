"""The training loss: where samples are in the diffusion, what the decoder is given there, and what is minimised."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from engine.config import ModelConfig
from engine.diffusion.sampler import alpha_sigma, ddim_steps
from engine.model.denoiser import TorchDenoiser
from engine.model.layers import ConvNorm
from engine.model.network import CrowdNetwork
from engine.model.rate import BinnedCounts
from engine.training.losses import Levels, LossConfig, binned_loss, crowd_loss, draw_levels, noisy_maps, scale_loss

MODEL = ModelConfig(
    widths=(8, 8, 8, 16, 16), depths=(0, 0, 1, 1, 0), features=16, attention_dim=8, decoder_width=16, crop_size=64
)
LATENT = (2, MODEL.latent_channels, 8, 8)


@pytest.fixture
def network() -> CrowdNetwork:
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL)
    # The last layer starts at zero: every estimate would be the same.
    torch.nn.init.normal_(network.decoder.out.weight)
    for layer in network.modules():
        if isinstance(layer, ConvNorm):
            layer.norm.running_mean.normal_()
    return network


def test_levels_are_those_of_the_schedule():
    levels = draw_levels(4000, LossConfig(pure_noise=0.25), np.random.default_rng(0))
    assert not levels.own.any()
    assert np.mean(levels.times == 1) == pytest.approx(0.25, abs=0.03)
    others = levels.times[levels.times < 1]
    assert others.mean() == pytest.approx(0.5, abs=0.03)
    alpha, sigma = alpha_sigma(levels.times)
    np.testing.assert_array_equal(levels.alpha, alpha)
    np.testing.assert_array_equal(levels.sigma, sigma)


def test_self_aligned_levels_are_those_of_a_sampler_after_its_first_step():
    config = LossConfig(pure_noise=0.5, self_aligned=0.5)
    levels = draw_levels(4000, config, np.random.default_rng(0))
    assert np.mean(levels.own) == pytest.approx(0.25, abs=0.03)
    assert np.all(levels.times[levels.own] < 1)
    # (t, alpha, sigma) by hand: step s of S is told 1 - s/S and gets a map at the level 1 - (s + 1)/S.
    known = [(1 - s / S, 1 - (s + 1) / S) for S in (2, 3, 4) for s in range(1, S)]
    expected = {(round(t, 6), *np.round(alpha_sigma(level), 6)) for t, level in known}
    found = zip(levels.times[levels.own], levels.alpha[levels.own], levels.sigma[levels.own], strict=True)
    assert {tuple(np.round(x, 6)) for x in found} == expected
    # The others do not change with it.
    without = draw_levels(4000, dataclasses.replace(config, self_aligned=0), np.random.default_rng(0))
    for name in ("times", "alpha", "sigma"):
        np.testing.assert_array_equal(getattr(levels, name)[~levels.own], getattr(without, name)[~levels.own])


@torch.no_grad()
@pytest.mark.parametrize("steps", [2, 3, 4])
def test_a_self_aligned_sample_gets_what_the_sampler_feeds_in(network, steps: int):
    """Against a run of the sampler: its map after the first step, told the second step's time."""
    features, noise, maps = torch.randn(2, 16, 8, 8), torch.randn(LATENT), torch.rand(LATENT) * 0.5 - 0.25
    first, second = ddim_steps(steps)[:2]
    denoiser, limit = TorchDenoiser(network.eval()), MODEL.map_scale
    x_t = noise.clone()
    x_0 = denoiser.decode(features, x_t, first.t)
    coefficients = first.alpha, first.sigma, first.alpha_next, first.sigma_next, limit, 0.0
    denoiser.ddim_update(x_t, x_0, torch.zeros_like(x_t), torch.zeros_like(x_t), coefficients)

    alpha, sigma = (np.array([a, b]) for a, b in zip((first.alpha_next, first.sigma_next), (0.6, 0.8), strict=True))
    levels = Levels(np.array([second.t, 0.5]), alpha, sigma, np.array([True, False]))
    given = noisy_maps(network.decoder.train(), features, maps, levels, noise)
    # alpha is 4e-4 instead of 0 at t = 1.
    torch.testing.assert_close(given[0], x_t[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(given[1], 0.6 * maps[1] + 0.8 * noise[1])


def test_making_own_estimates_leaves_the_decoder_as_it_was(network):
    levels = Levels(np.full(2, 0.5), np.full(2, 0.6), np.full(2, 0.8), np.array([True, True]))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features = torch.randn(2, 16, 8, 8, requires_grad=True)
    given = noisy_maps(network.decoder.train(), features, torch.zeros(LATENT), levels, torch.randn(LATENT))
    assert not given.requires_grad
    assert network.decoder.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_count_losses_are_the_poisson_likelihood(network):
    """Against PyTorch's, on the sums of the encoder's map over blocks of 16, 64 and 64 (the whole crop)."""
    network.eval()
    generator = torch.Generator().manual_seed(1)
    pixels, heads = torch.randn((2, 3, 64, 64), generator=generator), torch.rand((2, 32, 32), generator=generator)
    counts = torch.randint(0, 4, (2, 4, 4), generator=generator).float()
    levels = draw_levels(2, LossConfig(), np.random.default_rng(0))
    config = LossConfig()
    loss, parts = crowd_loss(network, config, pixels, heads, counts, levels, torch.randn(LATENT))
    rate = network.encoder(pixels)[1].detach()
    blocks = rate.reshape(2, 4, 2, 4, 2).sum((2, 4)) + 1e-4
    expected = F.poisson_nll_loss(blocks, counts, log_input=False, eps=0)
    torch.testing.assert_close(parts["block"], expected)
    # Mean per block of 16 x 16: a crop's likelihood is shared by its 16 blocks.
    whole = (blocks.sum((1, 2)) - counts.sum((1, 2)) * blocks.sum((1, 2)).log()).mean() / 16
    torch.testing.assert_close(parts["region"], 2 * whole)
    torch.testing.assert_close(
        loss, config.map_weight * parts["map"] + config.block_weight * parts["block"] + parts["region"]
    )


def test_the_binned_loss_is_the_zero_inflated_likelihood_and_the_entropy_of_the_classes():
    """Against sums written out block by block, with the probabilities themselves."""
    rng = np.random.default_rng(0)
    centres = np.array([1.0, 2.0, 4.0])
    gate, bins = rng.normal(size=(2, 1, 3, 4)), rng.normal(size=(2, 3, 3, 4))
    counts = rng.poisson(0.8, (2, 3, 4)).astype(float)
    expected = 0.0
    for b, y, x in np.ndindex(counts.shape):
        present = 1 / (1 + np.exp(-gate[b, 0, y, x]))
        classes = np.exp(bins[b, :, y, x]) / np.exp(bins[b, :, y, x]).sum()
        rate, heads = classes @ centres, counts[b, y, x]
        # The factorial, which depends on nothing that is learned, is left out.
        likelihood = present * np.exp(-rate) * rate**heads + (1 - present) * (heads == 0)
        expected -= np.log(likelihood)
        if heads:
            expected -= np.log(classes[np.abs(centres - heads).argmin()])
    predicted = BinnedCounts(*(torch.from_numpy(x) for x in (gate, bins, centres)))
    assert float(binned_loss(predicted, torch.from_numpy(counts))) == pytest.approx(expected / counts.size)


def test_the_scale_loss_sums_absolute_errors_of_squares():
    rate, counts = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    rate[0, 0, 0], counts[0, 3, 3] = 2.0, 1.0
    # 16 px: 3 off; 32 px: 3; 64 px and the whole crop: 1 each.
    assert float(scale_loss(rate, counts)) == pytest.approx((0.25 * 3 + 0.5 * 3 + 1 + 1) / 16)


def test_a_network_with_bins_is_trained_by_all_parts_of_the_loss():
    torch.manual_seed(0)
    model = dataclasses.replace(MODEL, count_bins=(1, 2, 5))
    network = CrowdNetwork(model)
    heads, counts = torch.rand(2, 32, 32), torch.ones(2, 4, 4)
    levels = draw_levels(2, LossConfig(), np.random.default_rng(0))
    config = LossConfig(scale_weight=0.5)
    loss, parts = crowd_loss(network, config, torch.randn(2, 3, 64, 64), heads, counts, levels, torch.randn(LATENT))
    assert parts.keys() == {"map", "block", "region", "scale", "total"}
    assert torch.equal(parts.pop("total"), loss.detach())
    weights = {"map": config.map_weight, "block": 1.0, "region": 1.0, "scale": 0.5}
    assert float(loss.detach()) == pytest.approx(sum(weights[name] * float(x) for name, x in parts.items()), rel=1e-5)
    loss.backward()
    assert network.encoder.rate.out.weight.grad.any()
