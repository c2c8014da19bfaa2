"""Compares ways to decode: several decoders learn side by side on the features of one frozen encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import trange

from engine.dataset.samples import Sample
from engine.model.decoder import Decoder
from engine.model.layers import channels_last
from engine.model.network import CrowdNetwork
from engine.model.precision import mixed_precision
from engine.training.batches import CrowdBatches
from engine.training.calibrate import read_pictures
from engine.training.config import TrainConfig
from engine.training.losses import draw_levels, noisy_maps
from engine.training.rule import fit_rule
from engine.training.training_run import make_optimizer
from engine.training.validate import validate
from engine.training.variants import CrossAttentionDecoder, RegressionDecoder

VARIANTS: dict[str, type[Decoder]] = {
    "concatenation": Decoder,
    "cross-attention": CrossAttentionDecoder,
    "regression": RegressionDecoder,
}


@dataclass(frozen=True)
class Comparison:
    """What one decoder reached.

    Attributes:
        map_error: weighted squared error of the head map after one step, on held-out pictures.
        errors: mean absolute error of the count per part, by number of steps: of peaks above one threshold, which
            is fitted on the other folds of the held-out pictures.
    """

    variant: str
    parameters: int
    map_error: float
    errors: dict[int, dict[str, float]]


def compare_decoders(
    network: CrowdNetwork,
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    config: TrainConfig,
    steps: Sequence[int] = (1, 2, 3),
) -> list[Comparison]:
    """Train every decoder of :data:`VARIANTS` from random weights for ``config.iterations`` and score it.

    All see the same crops, times and noise; the encoder of ``network`` stays as it is.
    """
    torch.manual_seed(config.seed)
    encoder = network.encoder.eval().requires_grad_(False)
    networks = {}
    for name, kind in VARIANTS.items():
        networks[name] = CrowdNetwork(network.config)
        networks[name].encoder, networks[name].decoder = encoder, kind(network.config)
    batches = CrowdBatches(list(samples), network.config, config.augment, config.batch, config.seed)
    _train(networks, batches, config)
    rows = []
    for name, variant in networks.items():
        variant.eval()
        readings = read_pictures(variant, held_out, steps)
        rows.append(
            Comparison(
                variant=name,
                parameters=sum(p.numel() for p in variant.decoder.parameters()),
                map_error=validate(variant, network.config, list(held_out), torch.device("cpu"))["map"],
                errors={number: fit_rule(found, one_threshold=True).errors for number, found in readings.items()},
            )
        )
    return rows


def table(rows: Sequence[Comparison]) -> str:
    """The comparison as a Markdown table, one line for each decoder and number of steps."""
    lines = ["| decoder | parameters | map error | steps | MAE by part |", "|---|---|---|---|---|"]
    for row in rows:
        for number, errors in row.errors.items():
            found = ", ".join(f"{part} {error:.1f}" for part, error in errors.items())
            lines.append(f"| {row.variant} | {row.parameters} | {row.map_error:.5f} | {number} | {found} |")
    return "\n".join(lines)


def _train(networks: dict[str, CrowdNetwork], batches: CrowdBatches, config: TrainConfig) -> None:
    optimizers = [make_optimizer(channels_last(n.decoder), config) for n in networks.values()]
    stream = batches.iterate(0)
    for number in trange(config.iterations, desc="compare", unit="step"):
        pixels, heads, _ = next(stream)
        rate = config.learning_rate * min(1, (number + 1) / config.warmup)
        rate *= 0.5 * (1 + math.cos(math.pi * number / config.iterations))
        with mixed_precision("cpu"):
            for network, optimizer, loss in zip(
                networks.values(), optimizers, _losses(networks, pixels, heads, config, number), strict=True
            ):
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.decoder.parameters(), config.clip_norm)
                optimizer.step(rate)
    stream.close()


def _losses(
    networks: dict[str, CrowdNetwork], pixels: Tensor, heads: Tensor, config: TrainConfig, number: int
) -> list[Tensor]:
    rng = np.random.default_rng((config.seed, number, 1))
    first = next(iter(networks.values()))
    scale = first.config.map_scale
    clean = first.fold(heads[:, None])
    maps = (2 * clean - 1) * scale
    levels = draw_levels(len(pixels), config.loss, rng)
    noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
    with torch.no_grad():
        features, *_ = first.encoder(pixels)
    losses = []
    for network in networks.values():
        x_t = noisy_maps(network.decoder, features, maps, levels, noise)
        x_0 = network.decoder(features, x_t, torch.from_numpy(levels.times).float())
        error = (x_0 - maps) / (2 * scale)
        losses.append(config.loss.map_weight * ((1 + config.loss.foreground * clean) * error.square()).mean())
    return losses
