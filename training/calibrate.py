"""Fits the rule that turns a head map into a count, on pictures that were not trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from engine import _core
from engine.config import RATIO_OFFSET, CountingRule, ModelConfig
from engine.counting.heads import candidate_threshold, haze, weak_ratio
from engine.counting.stitching import Canvas
from engine.dataset.samples import Sample
from engine.diffusion.latent import TileMaps, head_maps
from engine.diffusion.sampler import Latents, denoise, initial_noise
from engine.image.load import load_image
from engine.image.tiles import Tile, to_input
from engine.model.denoiser import TorchDenoiser
from engine.model.network import CrowdNetwork

THRESHOLDS = np.round(np.arange(0.10, 0.82, 0.02), 2)
STEPS = (1, 2, 3, 5, 10)
# Share of pictures whose true count may lie outside the interval.
MISSED = 0.1
# Held-out pictures that such an interval takes: of fewer, the outermost ratios claim less.
LEAST_PICTURES = 19
# Share of pictures that are warned of, in each of two ways, although they are like the held-out ones.
UNFAMILIAR = 0.02


@dataclass(frozen=True)
class Reading:
    """What a rule needs of one picture: the truth, the expected count, scores of all peaks, and the map's haze."""

    part: str
    true: int
    expected: float
    scores: np.ndarray
    haze: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A fitted rule and what it gives: mean absolute error per part, cross-validated."""

    rule: CountingRule
    errors: dict[str, float]


def calibrate(
    network: CrowdNetwork, model: ModelConfig, samples: Sequence[Sample], steps: Sequence[int] = STEPS, folds: int = 10
) -> dict[int, Fit]:
    """Fit one :class:`CountingRule` for each number of steps.

    Args:
        network: averaged weights, in eval mode.
        samples: held-out pictures.

    Returns:
        For each number of steps the rule that suits all ``samples``, with the errors that rules
        fitted on the other folds make on each fold.
    """
    readings = read_pictures(network, model, samples, steps)
    return {number: fit_rule(rows, folds) for number, rows in readings.items()}


def fit_rule(rows: Sequence[Reading], folds: int = 10, one_threshold: bool = False) -> Fit:
    """The rule that suits all ``rows``; its errors and its interval come from rules fitted on other folds.

    With ``one_threshold``, low and high are the same, and the encoder's count has no say.
    """
    table = _CountTable(rows, one_threshold)
    fold_of = np.arange(len(rows)) % folds
    counts = np.zeros(len(rows))
    for fold in range(folds):
        low, high = table.best(fold_of != fold)
        counts[fold_of == fold] = table.counts[low, high, fold_of == fold]
    low, high = table.best(np.ones(len(rows), bool))
    least, most = _ratio_quantiles(table.true, counts)
    rule = _bound_doubts(CountingRule(float(THRESHOLDS[low]), float(THRESHOLDS[high]), least, most), rows, counts)
    parts = np.array([row.part for row in rows])
    errors = np.abs(counts - table.true)
    return Fit(rule, {part: float(errors[parts == part].mean()) for part in sorted(set(parts))})


def _ratio_quantiles(true: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Split conformal prediction: 5 % of new pictures fall below the first ratio, 5 % above the second."""
    ratios = np.sort((true + RATIO_OFFSET) / (counts + RATIO_OFFSET))
    # With n calibration pictures the new one is equally likely to rank anywhere among n + 1.
    rank = min(math.ceil((len(ratios) + 1) * (1 - MISSED / 2)), len(ratios)) - 1
    return min(float(ratios[len(ratios) - 1 - rank]), 1.0), max(float(ratios[rank]), 1.0)


def _bound_doubts(rule: CountingRule, rows: Sequence[Reading], counts: np.ndarray) -> CountingRule:
    """``rule`` with the bounds beyond which a picture is unlike ``rows``; 2 % of pictures like them exceed each."""
    rank = min(math.ceil((len(rows) + 1) * (1 - UNFAMILIAR)), len(rows)) - 1
    hazes = sorted(row.haze for row in rows)
    weak = sorted(weak_ratio(row.scores, rule, int(count)) for row, count in zip(rows, counts, strict=True))
    return dataclasses.replace(rule, most_haze=hazes[rank], most_weak=weak[rank])


@torch.inference_mode()
def read_pictures(
    network: CrowdNetwork, model: ModelConfig, samples: Sequence[Sample], steps: Sequence[int]
) -> dict[int, list[Reading]]:
    """Run the network on every picture, with each number of steps."""
    denoiser = TorchDenoiser(network)
    readings: dict[int, list[Reading]] = {number: [] for number in steps}
    for sample in tqdm(samples, desc="calibrate", unit="image"):
        image = load_image(sample.image)
        height, width = image.shape[:2]
        # In float32, whatever the CPU has: bfloat16 makes neighbours equal that are not, and rules of another CPU's.
        features, rate = network.encoder(torch.from_numpy(to_input(image, model)))
        shape = (1, model.latent_channels, *features.shape[2:])
        for number in steps:
            zeros = torch.zeros(shape)
            latents = Latents(torch.tensor(initial_noise(0, shape, 0)), zeros, zeros.clone())
            denoise(denoiser, features, latents, number, model.map_scale)
            canvas = Canvas(height, width, model)
            heatmap, spread = head_maps([latents.estimate.numpy()], [latents.change.numpy()], model)
            canvas.paste(Tile.whole(height, width), TileMaps(heatmap, spread, rate.numpy()[0, 0]))
            maps = canvas.maps(has_spread=number > 1)
            lowest = candidate_threshold(CountingRule(float(THRESHOLDS[0]), 1.0))
            _, scores = _core.find_peaks(maps.heatmap, lowest)
            found = Reading(sample.part, len(sample.points), maps.expected, scores, haze(maps.heatmap))
            readings[number].append(found)
    return readings


class _CountTable:
    """Count and absolute error of every pair of thresholds on every picture: [low, high, picture]."""

    def __init__(self, rows: Sequence[Reading], one_threshold: bool = False):
        # The pairs with low <= high.
        pairs = np.eye(len(THRESHOLDS)) if one_threshold else np.triu(np.ones((len(THRESHOLDS), len(THRESHOLDS))))
        self._barred = pairs == 0
        peaks = np.array([[(row.scores >= t).sum() for row in rows] for t in THRESHOLDS])
        expected = np.array([round(row.expected) for row in rows])
        self.true = true = np.array([row.true for row in rows])
        # As count_heads does: between the peaks above high and those above low, as many as expected.
        self.counts = np.clip(expected, peaks[None, :, :], peaks[:, None, :])
        self.errors = np.abs(self.counts - true).astype(np.float64)
        parts = np.array([row.part for row in rows])
        # Every part weighs the same, whatever its number of pictures and people.
        self._weights = np.zeros(len(rows))
        for part in set(parts):
            inside = parts == part
            self._weights[inside] = 1 / (inside.sum() * max(true[inside].mean(), 1))

    def best(self, used: np.ndarray) -> tuple[int, int]:
        """Indices of the low and high thresholds with the least weighted error over ``used``."""
        loss = (self.errors * self._weights)[:, :, used].sum(axis=2)
        loss[self._barred] = np.inf
        return tuple(int(i) for i in np.unravel_index(int(loss.argmin()), loss.shape))  # type: ignore[return-value]
