"""The maps of one tile, and how they come out of the latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.config import FEATURE_STRIDE, ModelConfig
from engine.image.tiles import padded_shape


@dataclass(frozen=True)
class TileMaps:
    """What the network says of one tile, padding included.

    Attributes:
        heatmap: float32 [H / map_stride, W / map_stride] in [0, 1].
        spread: the same, how far the heat map moved between steps or differs between samples.
        rate: float32 [H / 8, W / 8], heads that the encoder expects in each 8x8 block.
        signature: float32 [S], what the tile looks like as a whole.
        peaks: points [N, 2] in cells and scores [N] of the heat map's peaks, where the backend has looked for them.

    The first two may end where the picture ends.
    """

    heatmap: np.ndarray
    spread: np.ndarray
    rate: np.ndarray
    signature: np.ndarray
    peaks: tuple[np.ndarray, np.ndarray] | None = None


def latent_shape(height: int, width: int, model: ModelConfig) -> tuple[int, int, int, int]:
    """Shape [1, L, H' / 8, W' / 8] of the latent of a tile of ``height`` x ``width`` pixels, which is padded.

    >>> latent_shape(768, 1001, ModelConfig())
    (1, 16, 96, 128)
    """
    rows, columns = (side // FEATURE_STRIDE for side in padded_shape(height, width)[2:])
    return 1, model.latent_channels, rows, columns


def head_maps(
    estimates: Sequence[np.ndarray], changes: Sequence[np.ndarray], model: ModelConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Heat map and spread of one or more noise samples.

    Args:
        estimates: clean latents [1, L, h, w] in -b .. b, one for each sample.
        changes: step-to-step changes [1, L, h, w], one for each sample.

    Returns:
        The mean of the samples, scaled to [0, 1], and their mean change plus the standard deviation
        between them: float32, depth unfolded to space.
    """
    scale = np.float32(1 / (2 * model.map_scale))
    mean, spread = estimates[0], changes[0]
    if len(estimates) > 1:
        mean = np.mean(estimates, axis=0)
        spread = np.mean(changes, axis=0) + scale * np.std(estimates, axis=0)
    factor = FEATURE_STRIDE // model.map_stride
    heatmap = _unfold(np.clip(mean * scale + np.float32(0.5), 0, 1), factor)
    return heatmap, _unfold(np.clip(spread, 0, 1), factor)


def fold_map(heatmap: np.ndarray, shape: tuple[int, ...], model: ModelConfig) -> np.ndarray:
    """The latent of a heat map: what :func:`head_maps` turns back into it.

    Args:
        heatmap: [h, w] in [0, 1]; beyond its right and lower end nobody is.
        shape: of the latent, [1, L, h', w'].

    Returns:
        float32 of that shape in -b .. b.
    """
    factor = FEATURE_STRIDE // model.map_stride
    rows, columns = shape[2] * factor, shape[3] * factor
    whole = np.zeros((rows, columns), np.float32)
    whole[: heatmap.shape[0], : heatmap.shape[1]] = heatmap[:rows, :columns]
    patches = whole.reshape(shape[2], factor, shape[3], factor).transpose(1, 3, 0, 2)
    return (patches.reshape(shape) - np.float32(0.5)) * np.float32(2 * model.map_scale)


def _unfold(latent: np.ndarray, factor: int) -> np.ndarray:
    """Depth to space: [1, factor^2, h, w] -> [h * factor, w * factor]."""
    height, width = latent.shape[2:]
    patches = np.empty((height, factor, width, factor), latent.dtype)
    # Plane by plane: twice as fast as copying the transpose.
    for plane, (row, column) in zip(latent[0], np.ndindex(factor, factor), strict=True):
        patches[:, row, :, column] = plane
    return patches.reshape(height * factor, width * factor)
