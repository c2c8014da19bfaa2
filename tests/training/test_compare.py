"""The comparison of decoders: each is what its name says, and all are scored after the same training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from engine.config import ModelConfig
from engine.dataset.samples import Sample
from engine.model.network import CrowdNetwork
from engine.training.compare import VARIANTS, compare_decoders, table
from engine.training.config import TrainConfig
from engine.training.variants import CrossAttentionDecoder, RegressionDecoder

MODEL = ModelConfig(
    widths=(8, 8, 8, 16, 16), depths=(0, 0, 1, 1, 0), features=16, attention_dim=8, decoder_width=16, crop_size=64
)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return torch.randn(2, 16, 4, 6), torch.randn(2, 16, 4, 6), torch.tensor([0.9, 0.2])


def randomised(kind):
    torch.manual_seed(1)
    decoder = kind(MODEL).eval()
    # The last layer starts at zero: everything would be equal.
    torch.nn.init.normal_(decoder.out.weight)
    return decoder


@torch.no_grad()
def test_regression_sees_neither_noise_nor_time(inputs):
    features, x_t, t = inputs
    decoder = randomised(RegressionDecoder)
    torch.testing.assert_close(decoder(features, x_t, t), decoder(features, -x_t, t / 2), rtol=0, atol=0)
    assert not torch.equal(decoder(features, x_t, t), decoder(-features, x_t, t))


@torch.no_grad()
@pytest.mark.parametrize("kind", [k for k in VARIANTS.values() if k is not RegressionDecoder])
def test_diffusion_decoders_see_features_noise_and_time(kind, inputs):
    features, x_t, t = inputs
    decoder = randomised(kind)
    for block in decoder.blocks:
        torch.nn.init.normal_(block.scale_shift.weight)
    given = decoder(features, x_t, t)
    assert given.shape == x_t.shape
    for other in ((-features, x_t, t), (features, -x_t, t), (features, x_t, t / 2)):
        assert not torch.allclose(decoder(*other), given)


@torch.no_grad()
def test_cross_attention_reaches_features_through_rows_and_columns_alone(inputs):
    """With one pass and no blocks, a pixel's output depends on the features of its row and column only."""
    features, x_t, t = inputs
    decoder = randomised(CrossAttentionDecoder)
    decoder.blocks, decoder.attention_passes = torch.nn.ModuleList(), 0
    decoder.query, decoder.key_value = decoder.query[:1], decoder.key_value[:1]
    changed = features.clone()
    changed[:, :, 1, 2] += 1
    moved = (decoder(features, x_t, t) - decoder(changed, x_t, t)).abs().amax(dim=(0, 1)) > 0
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[1], expected[:, 2] = True, True
    assert torch.equal(moved, expected)


def test_decoders_learn_beside_each_other(tmp_path):
    rng = np.random.default_rng(0)
    samples = []
    for number in range(3):
        points = rng.uniform(8, 88, (4, 2)).astype(np.float32)
        pixels = rng.integers(0, 60, (96, 96, 3), np.uint8)
        for x, y in points.astype(int):
            pixels[y - 3 : y + 4, x - 3 : x + 4] = 240
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        samples.append(Sample(tmp_path / f"{number}.png", points, "part"))
    config = TrainConfig(iterations=12, batch=2, warmup=2, learning_rate=3e-3, model=MODEL)
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL)
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    rows = compare_decoders(network, samples, samples, config, steps=(1, 2))
    assert [row.variant for row in rows] == list(VARIANTS)
    # The decoders start from an empty map; that one's error is the weighted mean of the squared target.
    untrained = compare_decoders(network, samples, samples, TrainConfig(iterations=0, batch=2, model=MODEL), (1,))
    for row, start in zip(rows, untrained, strict=True):
        assert row.map_error < start.map_error
        assert row.errors.keys() == {1, 2}
        assert row.errors[1].keys() == {"part"}
    assert len(table(rows).splitlines()) == 2 + 2 * len(VARIANTS)
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
