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
@pytest.mark.parametrize("spread", [0.5, 1.3])
def test_the_likeness_is_that_of_normal_pictures(domains: int, spread: float) -> None:
    rng = np.random.default_rng(domains)
    seen = rng.normal(rng.normal(0, 0.4, (domains, COMPONENTS)), spread, (40, domains, COMPONENTS)).astype(np.float32)
    likeness = Likeness(domains)
    likeness.fit(torch.from_numpy(seen.reshape(40, -1)))
    mean = seen.mean(axis=0)
    near = mean + 0.7 * (seen[:6] - mean)
    signature = np.concatenate([near, rng.normal(0, 1, (4, domains, COMPONENTS))]).astype(np.float32)
    deviation = np.sqrt(np.maximum(np.square(seen - mean).mean(axis=(0, 2)), 1))[:, None]
    own = norm.logpdf(signature, mean, deviation).sum(axis=2)
    others = [norm.logpdf(signature, 0, other).sum(axis=2) for other in (1, 4)]
    expected = 1 / (1 + sum(np.exp(other - own).sum(axis=1) for other in others))
    found = likeness(torch.from_numpy(signature.reshape(10, -1)))
    assert found.shape == (10, 1, 1, 1)
    np.testing.assert_allclose(found.ravel(), expected, atol=0.03)
    assert 0.05 < expected.mean() < 0.95
    for x in likeness.buffers():
        assert torch.equal(x, x.half().float()), "a bundle has float16"


def test_a_picture_far_from_all_is_of_anywhere_else() -> None:
    likeness = Likeness(2)
    place = 400 * torch.ones(2 * COMPONENTS) + torch.randn(20, 2 * COMPONENTS)
    likeness.fit(place)
    signatures = torch.stack([place[0], torch.zeros(2 * COMPONENTS), 4 * place[0], -place[0]])
    torch.testing.assert_close(likeness(signatures).ravel(), torch.tensor([1.0, 0, 0, 0]))


def test_components_that_a_domain_has_not_say_nothing() -> None:
    """A domain of few pictures has zeros in place of them."""
    seen = torch.randn(20, COMPONENTS) + 0.5
    few = torch.where(torch.arange(COMPONENTS) < 8, seen, 0.0)
    likeness = Likeness(1)
    likeness.fit(few)
    known = few[:, :8].numpy()
    own = norm.logpdf(known, known.mean(axis=0), max(known.var(axis=0).mean(), 1) ** 0.5)
    others = [norm.logpdf(known, 0, other).sum(axis=1) for other in (1, 4)]
    expected = 1 / (1 + sum(np.exp(other - own.sum(axis=1)) for other in others))
    np.testing.assert_allclose(likeness(few).ravel(), expected, atol=0.03)


def test_until_it_is_fitted_nothing_is_told_apart() -> None:
    assert torch.equal(Likeness(2)(torch.randn(3, 2 * COMPONENTS)), torch.full((3, 1, 1, 1), 1 / 5))


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
        for place in (signature[0] + torch.randn(20, COMPONENTS), torch.randn(20, COMPONENTS)):
            encoder.likeness.fit(place)
            share = encoder.likeness(signature)
            found = encoder(image)[1]
            if bins:  # A quarter of a block's heads lies in each of its cells.
                found = 4 * found[:, :, ::2, ::2]
            torch.testing.assert_close(found, (1 - share) * general + share * own)
