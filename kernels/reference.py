"""What each kernel computes, in NumPy float64: written to be read, and to test the fast versions against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Noise scales below this are treated as this, so that the last step divides by no zero.
_MIN_SIGMA = 1e-8


def criss_cross_attention(q: ArrayLike, k: ArrayLike, v: ArrayLike) -> NDArray[np.float64]:
    """Attention of every pixel to its own row and column, under one softmax.

    ``out[y, x] = sum_p softmax_p(q[y, x] . k[p]) v[p]`` over the H + W - 1 pixels ``p`` of row y and
    column x; the pixel itself counts once. The logits are not scaled.

    Args:
        q: [B, H, W, D] queries.
        k: [B, H, W, D] keys.
        v: [B, H, W, C] values.

    Returns:
        [B, H, W, C], float64.

    Source: CCNet (ICCV 2019), equations 1 and 2.

    A pixel with equal logits takes the mean of its cross:

    >>> zeros, v = np.zeros((1, 2, 2, 1)), np.array([[[[1.0], [2.0]], [[6.0], [9.0]]]])
    >>> criss_cross_attention(zeros, zeros, v)[0, :, :, 0].tolist()
    [[3.0, 4.0], [5.333333333333333, 5.666666666666667]]
    """
    q, k, v = (np.asarray(array, np.float64) for array in (q, k, v))
    height, width = q.shape[1:3]
    # Per pixel: logits of its column [B, H, W, H], then of its row [B, H, W, W].
    column = np.einsum("byxd,bixd->byxi", q, k)
    row = np.einsum("byxd,byjd->byxj", q, k)
    # The pixel itself is in both; drop it from the column.
    column[:, np.arange(height), :, np.arange(height)] = -np.inf
    logits = np.concatenate([column, row], axis=-1)
    if logits.size:
        logits -= logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits)
    weights /= weights.sum(axis=-1, keepdims=True)
    from_column = np.einsum("byxi,bixc->byxc", weights[..., :height], v)
    from_row = np.einsum("byxj,byjc->byxc", weights[..., height:], v)
    assert weights.shape[-1] == height + width
    return np.asarray(from_column + from_row)


def ddim_update(
    x_t: ArrayLike, x_0: ArrayLike, estimate: ArrayLike, change: ArrayLike, coefficients: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One deterministic DDIM step, and how much it changed the estimate of the clean map.

    With ``new = clip(x_0, -limit, limit)``: ``noise = (x_t - alpha new) / max(sigma, 1e-8)``,
    ``x_t' = alpha_next new + sigma_next noise``, ``change' = change + change_weight |new - estimate|``
    and ``estimate' = new``.

    Args:
        x_t: the noisy map, any shape.
        x_0: the decoder's estimate of the clean map, same shape.
        estimate: the estimate of the step before, same shape.
        change: the weighted sum of changes so far, same shape.
        coefficients: ``(alpha, sigma, alpha_next, sigma_next, limit, change_weight)``.

    Returns:
        ``(x_t', estimate', change')``, float64, same shape.

    Source: DDIM (ICLR 2021) with eta = 0, equation 12, as used by DDP (ICCV 2023).

    >>> [float(y) for y in ddim_update(0.5, 2.0, 0.75, 0.0, (0.0, 1.0, 0.5, 0.25, 1.0, 2.0))]
    [0.625, 1.0, 0.5]
    """
    x_t, x_0, estimate, change = (np.asarray(array, np.float64) for array in (x_t, x_0, estimate, change))
    alpha, sigma, alpha_next, sigma_next, limit, change_weight = coefficients
    new = np.clip(x_0, -limit, limit)
    noise = (x_t - alpha * new) / max(sigma, _MIN_SIGMA)
    moved = alpha_next * new + sigma_next * noise
    return np.asarray(moved), np.asarray(new), np.asarray(change + change_weight * np.abs(new - estimate))


def head_maps(
    estimates: ArrayLike, changes: ArrayLike, scale: float, window: tuple[int, int, int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Heat map and spread of one picture or tile, from the latents of its samples.

    The heat map is ``clip(mean(estimates) scale + 1/2, 0, 1)``, the spread ``clip(mean(changes) + scale
    std(estimates), 0, 1)``. Cell (y, x) lies in channel ``(y mod r) r + x mod r`` of block (y div r, x div r).

    Args:
        estimates: clean latents [S, r * r, h, w] of S samples.
        changes: how much they changed from step to step, same shape.
        scale: 1 / (2 b) for latents in -b .. b.
        window: (top, left, height, width) of the cells to keep, within [h r, w r].

    Returns:
        heatmap and spread, float64 [height, width].

    >>> latents = np.array([[[[-0.25]], [[0.25]], [[0.0]], [[0.5]]]])
    >>> head_maps(latents, latents, 2.0, (0, 0, 2, 2))[0].tolist()
    [[0.0, 1.0], [0.5, 1.0]]
    """
    estimates, changes = np.asarray(estimates, np.float64), np.asarray(changes, np.float64)
    top, left, height, width = window
    maps = estimates.mean(axis=0) * scale + 0.5, changes.mean(axis=0) + scale * estimates.std(axis=0)
    factor = round(len(maps[0]) ** 0.5)
    y, x = np.indices((height, width))
    y, x = y + top, x + left
    there = y % factor * factor + x % factor, y // factor, x // factor
    heatmap, spread = (np.clip(latent[there], 0, 1) for latent in maps)
    return heatmap, spread


def preprocess(image: ArrayLike, mean: float, std: float, multiple: int = 32) -> NDArray[np.float64]:
    """Normalise a picture and pad it with zeros on the right and below.

    Args:
        image: uint8 [H, W, 3].
        mean, std: of pixels in [0, 1].
        multiple: what the padded sides are multiples of.

    Returns:
        [1, 3, H', W'], float64; zero is the mean pixel.

    >>> preprocess(np.full((1, 1, 3), 255), mean=0.5, std=0.25, multiple=2)[0, 0].tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    pixels = (np.asarray(image, np.float64) / 255 - mean) / std
    below, right = (-side % multiple for side in pixels.shape[:2])
    return np.pad(pixels, ((0, below), (0, right), (0, 0))).transpose(2, 0, 1)[None]


def find_peaks(heatmap: ArrayLike, threshold: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Local maxima of a heat map that reach a threshold, in raster order, refined to a fraction of a cell.

    A cell is a peak if it exceeds its 4 earlier neighbours in raster order and is no less than its 4
    later ones, so that a tie belongs to the first cell. Cells outside the map and NaN neighbours count as
    -infinity; NaN and -infinity cells are never peaks. Each axis is refined by the vertex of the parabola
    through left, centre and right, ``(r - l) / (2 (2c - l - r))``, clipped to half a cell; by nothing
    where a neighbour is missing or NaN, or the denominator is not positive and finite.

    Args:
        heatmap: [h, w].
        threshold: smallest value of a peak.

    Returns:
        points float32 [N, 2] as (x, y) in cells, the centre of the first cell being (0.5, 0.5), and
        scores float32 [N].

    Source: peaks as in CenterNet (2019); the parabola is the standard three-point vertex formula.

    >>> points, scores = find_peaks([[0.0, 0.75, 1.0, 0.25], [0.0, 0.0, 0.0, 0.0]], 0.5)
    >>> points.tolist(), scores.tolist()
    ([[2.25, 0.5]], [1.0])
    """
    cells = np.asarray(heatmap, np.float64)
    height, width = cells.shape
    # [h + 2, w + 2], NaN outside the map.
    framed = np.pad(cells, 1, constant_values=np.nan)
    comparable = np.where(np.isnan(framed), -np.inf, framed)

    def shifted(array: NDArray[np.float64], dy: int, dx: int) -> NDArray[np.float64]:
        return array[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    is_peak = cells >= threshold
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):
        is_peak &= cells > shifted(comparable, dy, dx)
    for dy, dx in ((0, 1), (1, -1), (1, 0), (1, 1)):
        is_peak &= cells >= shifted(comparable, dy, dx)
    y, x = np.nonzero(is_peak)
    centre = cells[y, x]
    dx_cells = _parabola_offset(shifted(framed, 0, -1)[y, x], centre, shifted(framed, 0, 1)[y, x])
    dy_cells = _parabola_offset(shifted(framed, -1, 0)[y, x], centre, shifted(framed, 1, 0)[y, x])
    points = np.stack([x + 0.5 + dx_cells, y + 0.5 + dy_cells], axis=1).astype(np.float32)
    return points, centre.astype(np.float32)


def _parabola_offset(
    before: NDArray[np.float64], centre: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Vertex of the parabola through three neighbouring values, relative to the middle one."""
    with np.errstate(invalid="ignore"):
        denominator = 2 * (2 * centre - before - after)
        usable = (denominator > 0) & np.isfinite(denominator)
        offset = (after - before) / np.where(usable, denominator, 1)
    return np.where(usable, np.clip(offset, -0.5, 0.5), 0.0)
