"""Calibrates a model: statistics of its training pictures, and the counting rule on pictures that it did not see."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from engine import _core
from engine.config import COMPONENTS, CountingRule
from engine.counting.heads import candidate_threshold, haze
from engine.counting.stitching import Canvas
from engine.dataset.samples import Sample
from engine.diffusion.latent import TileMaps, head_maps
from engine.diffusion.sampler import Latents, denoise, initial_noise
from engine.errors import ConfigError
from engine.image.load import load_image
from engine.image.tiles import HostPicture, plan_tiles, to_input
from engine.model.denoiser import TorchDenoiser
from engine.model.network import CrowdNetwork
from engine.training.rule import THRESHOLDS, Fit, Reading, fit_rule

STEPS = (1, 2, 3, 5, 10)
# Pictures that the statistics of a domain take: twice as many as it has components, and no more than tell them well.
LEAST_OF_DOMAIN, _MOST_OF_DOMAIN = 2 * COMPONENTS, 256
# A deviation is negligible below this share of the largest of any feature or component.
_NEGLIGIBLE = 1e-3


def calibrate(
    network: CrowdNetwork,
    trained: Sequence[Sample],
    held_out: Sequence[Sample],
    steps: Sequence[int] = STEPS,
    folds: int = 10,
) -> dict[int, Fit]:
    """Set the signature's statistics in ``network``, and fit one :class:`CountingRule` for each number of steps.

    Args:
        network: averaged weights, in eval mode.
        trained: pictures that it was trained on.
        held_out: pictures that it was not.

    Returns:
        For each number of steps the rule that suits all of ``held_out``, with the errors that rules fitted on the other
        folds make on each fold.

    Raises:
        ConfigError: as of :func:`set_signature`.
    """
    set_signature(network, trained)
    readings = read_pictures(network, held_out, steps)
    return {number: fit_rule(rows, folds) for number, rows in readings.items()}


@torch.inference_mode()
def set_signature(network: CrowdNetwork, samples: Sequence[Sample]) -> None:
    """Put the statistics of ``samples`` into ``network``: each part that is large enough is a domain, or all together.

    Of too few pictures there are none: every distance is 0 then.

    Raises:
        ConfigError: the network was fine-tuned, and its likeness is made of the statistics that it has.
    """
    if network.config.own_rate:
        raise ConfigError("a fine-tuned model keeps the statistics and rules of what it was tuned from: calibrate that")
    parts = [[x for x in samples if x.part == part] for part in sorted({x.part for x in samples})]
    groups = [part for part in parts if len(part) >= LEAST_OF_DOMAIN] or [list(samples)]
    domains = []
    for group in groups:
        if len(group) >= LEAST_OF_DOMAIN:
            chosen = group[:: -(-len(group) // _MOST_OF_DOMAIN)]
            pictures = tqdm(chosen, desc="statistics", unit="image", leave=False)
            pooled = [pool(network, load_image(x.image)) for x in pictures]
            domains.append(whiten(np.array(pooled, np.float64)))
    network.set_signature(domains)


def whiten(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight [COMPONENTS, C] and bias [COMPONENTS] that give the main components of features [N, C] a variance of 1.

    The components are those of the features at unit variance each. Features and components that hardly vary get zeros:
    they would tell rounding errors from rounding errors.
    """
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    inverse = np.where(deviation > _NEGLIGIBLE * deviation.max(), 1 / np.maximum(deviation, 1e-12), 0)
    _, lengths, axes = np.linalg.svd((features - mean) * inverse, full_matrices=False)
    kept = min(COMPONENTS, int((lengths > _NEGLIGIBLE * lengths.max()).sum()))
    weight = np.zeros((COMPONENTS, features.shape[1]))
    weight[:kept] = axes[:kept] * inverse * np.sqrt(len(features)) / lengths[:kept, None]
    return weight, -weight @ mean


@torch.inference_mode()
def read_pictures(network: CrowdNetwork, samples: Sequence[Sample], steps: Sequence[int]) -> dict[int, list[Reading]]:
    """Run the network on every picture, with each number of steps."""
    model = network.config
    lowest = candidate_threshold(CountingRule(float(THRESHOLDS[0]), 1.0))
    readings: dict[int, list[Reading]] = {number: [] for number in steps}
    for sample in tqdm(samples, desc="calibrate", unit="image"):
        picture = HostPicture(load_image(sample.image))
        height, width = picture.shape[:2]
        canvases = {number: Canvas(height, width, model) for number in steps}
        # As pictures are counted: a large one in tiles, which take less memory.
        for tile in plan_tiles(height, width):
            for number, tile_maps in _read_tile(network, picture.crop(tile), steps):
                canvases[number].paste(tile, tile_maps)
        for number, canvas in canvases.items():
            maps = canvas.maps(has_spread=number > 1)
            _, scores = _core.find_peaks(maps.heatmap, lowest)
            true = len(sample.points)
            found = Reading(sample.part, true, maps.expected, scores, haze(maps.heatmap), maps.distance)
            readings[number].append(found)
    return readings


def _read_tile(
    network: CrowdNetwork, image: np.ndarray, steps: Sequence[int]
) -> Generator[tuple[int, TileMaps], None, None]:
    """Each number of steps with what the network says then of a tile, uint8 [H, W, 3]."""
    model, denoiser = network.config, TorchDenoiser(network)
    # In float32, whatever the CPU has: bfloat16 makes neighbours equal that are not, and rules of another CPU's.
    features, rate, signature = network.encoder(pixels(image, network))
    shape = (1, model.latent_channels, *features.shape[2:])
    for number in steps:
        zeros = torch.zeros(shape)
        latents = Latents(torch.tensor(initial_noise(0, shape, 0)), zeros, zeros.clone())
        denoise(denoiser, features, latents, number, model.map_scale)
        heatmap, spread = head_maps([latents.estimate.numpy()], [latents.change.numpy()], model)
        yield number, TileMaps(heatmap, spread, rate.numpy()[0, 0], signature.numpy()[0])


@torch.inference_mode()
def pool(network: CrowdNetwork, image: np.ndarray) -> np.ndarray:
    """The mean features [C] of a picture; those of a picture of several tiles are theirs, each by its share."""
    picture = HostPicture(image)
    height, width = picture.shape[:2]
    pooled: list[np.ndarray] = []
    for tile in plan_tiles(height, width):
        area = (tile.core_bottom - tile.core_top) * (tile.core_right - tile.core_left)
        features = network.encoder.pool(pixels(picture.crop(tile), network))[0].numpy()
        pooled.append(features * np.float64(area / (height * width)))
    return np.sum(pooled, axis=0)


def pixels(image: np.ndarray, network: CrowdNetwork) -> Tensor:
    """A picture as the network takes it: [1, 3, H, W]."""
    return torch.from_numpy(to_input(image, network.config))
