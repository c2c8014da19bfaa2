"""The signature of a picture, its likeness to those that were tuned on, and weights from before there was one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from engine.config import COMPONENTS, ModelConfig

torch = pytest.importorskip("torch")

from engine.model.network import CrowdNetwork  # noqa: E402
from engine.model.signature import Likeness  # noqa: E402

SMALL = ModelConfig(widths=(32,) * 5, depths=(0,) * 5, features=32, attention_dim=16, decoder_width=32)


def _network(model: ModelConfig = SMALL) -> CrowdNetwork:
    torch.manual_seed(0)
    return CrowdNetwork(model).eval()


def test_it_is_a_linear_function_of_the_mean_features() -> None:
    network, rng = _network(), np.random.default_rng(0)
    domains = [(rng.normal(size=(COMPONENTS, 32)), rng.normal(size=COMPONENTS)) for _ in range(3)]
    network.set_signature(domains)
    assert network.config.domains == 3
    image = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        pooled, signature = network.encoder.pool(image).numpy(), network.encoder(image)[2].numpy()
        rounded = network.encoder(image.bfloat16().float())[2].numpy()
    expected = np.concatenate([pooled @ weight.T + bias for weight, bias in domains], axis=1)
    assert signature.dtype == np.float32
    # The statistics are float16 numbers, as in a bundle.
    np.testing.assert_allclose(signature, expected, rtol=2e-3, atol=2e-2)
    assert np.abs(rounded - signature).max() > 0


def test_it_is_float32_where_the_network_is_not() -> None:
    network = _network()
    network.set_signature([(np.ones((COMPONENTS, 32)), np.zeros(COMPONENTS))])
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        exact = network.encoder(image)[2]
        with torch.autocast("cpu", torch.bfloat16):
            reduced = network.encoder(image)[2]
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, exact, rtol=0.02, atol=0.02)


def test_weights_from_when_the_rate_was_called_density_are_read() -> None:
    network = _network()
    older = {name: value for name, value in network.state_dict().items() if "signature" not in name}
    for new, old in (("rate.hidden.", "density_hidden."), ("rate.out.", "density.")):
        older = {name.replace(f"encoder.{new}", f"encoder.{old}"): value for name, value in older.items()}
    assert "encoder.density.weight" in older
    torch.manual_seed(1)
    again = CrowdNetwork(SMALL).eval()
    again.load_state_dict(older)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(again.encoder(image), network.encoder(image), strict=True):
            assert torch.equal(ours, theirs)
    with pytest.raises(RuntimeError, match=r"encoder\.smooth\.conv\.weight"):
        again.load_state_dict({name: x for name, x in older.items() if name != "encoder.smooth.conv.weight"})


@pytest.mark.parametrize("domains", [1, 2, 3])
def test_the_likeness_is_that_of_gaussians_with_a_variance_of_1(domains: int) -> None:
    rng = np.random.default_rng(domains)
    mean = rng.normal(0, 0.3, (domains, COMPONENTS)).astype(np.float16).astype(np.float32)
    signature = rng.normal(0.1, 0.5, (4, domains, COMPONENTS)).astype(np.float32)
    likeness = Likeness(domains)
    likeness.set_mean(torch.from_numpy(mean.ravel()))
    found = likeness(torch.from_numpy(signature.reshape(4, -1))).numpy()
    own, others = norm.logpdf(signature, mean).sum(axis=2), norm.logpdf(signature).sum(axis=2)
    np.testing.assert_allclose(found[:, 0, 0, 0], 1 / (1 + np.exp(others - own).sum(axis=1)), atol=2e-3)


def test_without_a_mean_nothing_is_told_apart() -> None:
    likeness = Likeness(2)
    assert torch.equal(likeness(torch.randn(3, 2 * COMPONENTS)), torch.full((3, 1, 1, 1), 1 / 3))


@pytest.mark.parametrize("bins", [(), (1.0, 2.0)])
def test_the_own_rate_has_the_share_that_a_picture_is_like_its_own(bins: tuple[float, ...]) -> None:
    model = replace(SMALL, count_bins=bins, own_rate=True)
    network, rng = _network(model), np.random.default_rng(0)
    network.set_signature([(rng.normal(size=(COMPONENTS, 32)), rng.normal(size=COMPONENTS))])
    encoder, image = network.encoder, torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        features, _, signature = encoder(image)
        general, own = encoder.rate.expected(features), encoder.own_rate.expected(features)
        assert not torch.allclose(general, own)
        for mean in (signature[0] / 10, -signature[1] / 20):
            encoder.likeness.set_mean(mean.clone())
            share = encoder.likeness(signature)
            found = encoder(image)[1]
            if bins:  # A quarter of a block's heads lies in each of its cells.
                found = 4 * found[:, :, ::2, ::2]
            torch.testing.assert_close(found, (1 - share) * general + share * own)
