"""Calibrating a model: statistics of its training pictures, and a rule."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine.config import COMPONENTS, ModelConfig
from engine.counting.heads import distance

torch = pytest.importorskip("torch")

from engine.dataset.samples import Sample  # noqa: E402
from engine.model.network import CrowdNetwork  # noqa: E402
from engine.training.calibrate import calibrate, read_pictures, whiten  # noqa: E402

SMALL = ModelConfig(widths=(32,) * 5, depths=(0,) * 5, features=32, attention_dim=16, decoder_width=32)


def test_whitened_features_are_at_a_distance_of_one_from_their_own() -> None:
    rng = np.random.default_rng(0)
    mixing, mean = rng.normal(size=(40, 50)), 3 * rng.normal(size=50)
    features, new = (rng.normal(size=(n, 40)) @ mixing + mean for n in (2000, 500))
    weight, bias = whiten(features)
    signatures = features @ weight.T + bias
    assert signatures.shape == (2000, COMPONENTS)
    np.testing.assert_allclose(np.cov(signatures.T, bias=True), np.eye(COMPONENTS), atol=1e-6)
    assert np.mean([distance(weight @ x + bias) for x in new]) == pytest.approx(1, abs=0.05)
    # The oracle: Mahalanobis distance in the subspace of the largest components, of features at unit variance.
    scaled = (features - features.mean(0)) / features.std(0)
    values, axes = np.linalg.eigh(np.cov(scaled.T, bias=True))
    turned = ((new - features.mean(0)) / features.std(0)) @ axes[:, -COMPONENTS:]
    expected = np.sqrt((turned**2 / values[-COMPONENTS:]).mean(axis=1))
    np.testing.assert_allclose([distance(weight @ x + bias) for x in new], expected, rtol=1e-4)


def test_of_features_with_fewer_components_the_others_are_zero() -> None:
    features = np.random.default_rng(0).normal(size=(100, 8))
    weight, bias = whiten(features)
    assert (weight[8:] == 0).all()
    assert (bias[8:] == 0).all()


def test_a_network_is_read_and_calibrated_end_to_end(tmp_path) -> None:
    samples = []
    for i, size in enumerate([(64, 96), (50, 33), (40, 64)]):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        samples.append(Sample(tmp_path / f"{i}.png", np.zeros((3, 2), np.float32), "part_A"))
    torch.manual_seed(0)
    network = CrowdNetwork(SMALL).eval()
    readings = read_pictures(network, samples, (1, 2))
    assert [len(rows) for rows in readings.values()] == [3, 3]
    assert all(row.true == 3 and np.isfinite(row.expected) for row in readings[2])
    fits = calibrate(network, samples, samples, steps=(1, 2), folds=3)
    assert fits.keys() == {1, 2}
    assert all(fit.rule.low <= fit.rule.high and fit.errors.keys() == {"part_A"} for fit in fits.values())
    # Three pictures have no statistics.
    assert all(row.distance == 0 for row in readings[1])
    assert network.config.domains == 1
    assert all(fit.rule.most_distance == 1e9 for fit in fits.values())


def test_each_large_part_of_the_training_pictures_is_a_domain(tmp_path) -> None:
    rng = np.random.default_rng(0)
    samples = {"dark": [], "bright": [], "few": []}
    for part, level, number in (("dark", 40, 66), ("bright", 200, 70), ("few", 120, 5)):
        for i in range(number):
            path = tmp_path / f"{part}_{i}.png"
            pixels = rng.integers(level - 30, level + 30, (32, 32, 3)) + rng.integers(-10, 10, 3)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            samples[part].append(Sample(path, np.zeros((1, 2), np.float32), part))
    torch.manual_seed(0)
    network = CrowdNetwork(SMALL).eval()
    trained = [*samples["dark"][:-2], *samples["bright"][:-2], *samples["few"]]
    held_out = [*samples["dark"][-2:], *samples["bright"][-2:], *samples["few"]]
    fits = calibrate(network, trained, held_out, steps=(1,), folds=3)
    assert network.config.domains == 2
    assert network.encoder.signature.weight.shape[0] == 2 * COMPONENTS
    distances = [row.distance for row in read_pictures(network, held_out, (1,))[1]]
    # Those of a domain are near to it, those of none are far from each.
    assert max(distances[:4]) < min(distances[4:])
    assert fits[1].rule.most_distance == max(distances)
