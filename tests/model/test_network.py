"""Shapes, folding and cost of the network."""

from __future__ import annotations

import numpy as np
import pytest

from engine.config import COMPONENTS, ModelConfig
from engine.diffusion.latent import head_maps

torch = pytest.importorskip("torch")

from engine.model.network import CrowdNetwork  # noqa: E402

CONFIG = ModelConfig()


@pytest.fixture(scope="module")
def network() -> CrowdNetwork:
    torch.manual_seed(0)
    return CrowdNetwork(CONFIG).eval()


@pytest.mark.parametrize("size", [(32, 32), (64, 160), (96, 32)])
@torch.inference_mode()
def test_shapes(network, size) -> None:
    height, width = size[0] // 8, size[1] // 8
    features, rate, signature = network.encoder(torch.zeros(2, 3, *size))
    assert features.shape == (2, CONFIG.features, height, width)
    assert rate.shape == (2, 1, height, width)
    assert (rate > 0).all()
    assert signature.shape == (2, COMPONENTS)
    x_t = torch.zeros(2, CONFIG.latent_channels, height, width)
    assert network.decoder(features, x_t, torch.tensor([1.0, 0.3])).shape == x_t.shape


@torch.inference_mode()
def test_time_and_noise_reach_the_estimate() -> None:
    torch.manual_seed(0)
    decoder = CrowdNetwork(CONFIG).eval().decoder
    for parameter in decoder.parameters():
        # Zero-initialised layers would hide their inputs.
        parameter.normal_(std=0.1)
    features = torch.randn(1, CONFIG.features, 4, 4)
    x_t = torch.randn(1, CONFIG.latent_channels, 4, 4)
    base = decoder(features, x_t, torch.tensor([1.0]))
    assert not torch.allclose(base, decoder(features, x_t, torch.tensor([0.5])))
    assert not torch.allclose(base, decoder(features, -x_t, torch.tensor([1.0])))
    assert not torch.allclose(base, decoder(-features, x_t, torch.tensor([1.0])))


def test_fold_and_unfold_are_inverse_and_agree_with_the_engine(network) -> None:
    heatmap = torch.rand(1, 1, 32, 48)
    latent = network.fold(heatmap)
    assert latent.shape == (1, CONFIG.latent_channels, 8, 12)
    assert torch.equal(network.unfold(latent), heatmap)
    scaled = ((2 * latent - 1) * CONFIG.map_scale).numpy()
    unfolded, _ = head_maps([scaled], [np.zeros_like(scaled)], CONFIG)
    assert np.allclose(unfolded, heatmap[0, 0].numpy(), atol=1e-6)


@torch.inference_mode()
def test_the_network_stays_within_its_budget(network) -> None:
    """At 1024x768: convolutions of three steps within 25 GMAC, and a step within 1.5 with its attention."""
    # Here, as it imports Triton, which the tests of the kernels must first tell to interpret them.
    from torch.utils.flop_counter import FlopCounterMode

    features = torch.zeros(1, CONFIG.features, 96, 128)
    latent = torch.zeros(1, CONFIG.latent_channels, 96, 128)
    with FlopCounterMode(display=False) as encoder:
        network.encoder(torch.zeros(1, 3, 768, 1024))
    with FlopCounterMode(display=False) as decoder:
        network.decoder(features, latent, torch.ones(1))
    encoder_gmac, decoder_gmac = (x.get_total_flops() / 2e9 for x in (encoder, decoder))
    assert encoder_gmac + 3 * decoder_gmac <= 25
    # The counter does not know our operator: 96 x 128 pixels attend to 96 + 128 - 1 each, by q.k and then by weight.v.
    attention_gmac = 96 * 128 * (96 + 128 - 1) * (CONFIG.attention_dim + CONFIG.decoder_width) / 1e9
    assert decoder_gmac + CONFIG.decoder_attention_passes * attention_gmac <= 1.5
    assert sum(p.numel() for p in network.parameters()) * 2 <= 16 * 2**20, "float16 weights must fit in 16 MiB"
