"""What fine-tuning is made of: groups of pictures, the mean of tuned rates, and the share that they get."""

from __future__ import annotations

import numpy as np
import torch
from small_run import MODEL

from engine.config import COMPONENTS
from engine.dataset.samples import Sample
from engine.model.network import CrowdNetwork
from engine.training.fine_tuning import choose_share, merge, split_groups, with_own_rate


def test_groups_keep_neighbours_together_and_share_each_part(tmp_path):
    nobody = np.zeros((0, 2), np.float32)
    samples = [Sample(tmp_path / f"{part}{i:02}.png", nobody, part) for part in "ab" for i in range(12)]
    groups = split_groups(samples)
    assert [[s.image.stem for s in group] for group in groups] == [
        [f"{part}{i:02}" for part in "ab" for i in range(3 * k, 3 * k + 3)] for k in range(4)
    ]


def test_neighbours_are_those_whose_numbers_follow_each_other(tmp_path):
    nobody = np.zeros((0, 2), np.float32)
    names = sorted(f"{folder}/frame_{i}" for folder in ("cam1", "cam10", "cam2") for i in range(1, 21))
    groups = split_groups([Sample(tmp_path / f"{name}.png", nobody, "a") for name in names])
    ordered = [f"cam{camera}/frame_{i}" for camera in (1, 2, 10) for i in range(1, 21)]
    found = [[str(s.image.relative_to(tmp_path).with_suffix("")) for s in group] for group in groups]
    assert found == [ordered[:15], ordered[15:30], ordered[30:45], ordered[45:]]


def test_the_tuned_rate_is_the_mean_of_weights():
    torch.manual_seed(0)
    start, one, two = (with_own_rate(CrowdNetwork(MODEL).eval()) for _ in range(3))
    signatures = np.random.default_rng(0).normal(size=(5, COMPONENTS)).astype(np.float32)
    for share in (0.0, 0.5, 1.0):
        merged = merge(start, [one, two], share, signatures).encoder
        for name, value in merged.own_rate.named_parameters():
            mean = (one.encoder.own_rate.get_parameter(name) + two.encoder.own_rate.get_parameter(name)) / 2
            expected = (1 - share) * start.encoder.own_rate.get_parameter(name) + share * mean
            torch.testing.assert_close(value, expected)
        torch.testing.assert_close(
            merged.likeness.mean, torch.from_numpy(signatures.mean(axis=0)), rtol=1e-3, atol=1e-3
        )
        assert torch.equal(merged.rate.out.weight, start.encoder.rate.out.weight)


def test_the_largest_share_that_helps_is_taken():
    before = np.array([4.0, 4, 4])
    assert choose_share(before, {1.0: before - 0.1, 0.5: before - 0.2}) == 1.0
    assert choose_share(before, {1.0: before, 0.5: before - 0.2}) == 0.5
    assert choose_share(before, {1.0: before + 0.1, 0.5: before}) == 0.5
