"""Finding peaks, ours and as a user would otherwise write it; the others find cells without sub-cell offsets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from engine import _core
from engine.cli.timing import Timing
from engine.counting.heads import density_map
from engine.kernels import reference
from suite.gpu import gpu_peaks
from suite.groups import Group, Way, WrongResultError

LABELS = (
    "engine float32",
    "skimage's peak_local_max",
    "SciPy's maximum_filter",
    "max-pool, PyTorch",
    "engine float32 on cuda",
)
_THRESHOLD = 0.1


def crowd_map(height: int, width: int, people: int, seed: int = 0) -> np.ndarray:
    """A heat map float32 [height, width] in [0, 1] with ``people`` kernels, and ripples as a network leaves them.

    The ripples also keep neighbours from being equal, so that what counts as a peak is the same by everybody's rules.
    """
    rng = np.random.default_rng(seed)
    points = rng.uniform((0, 0), (width - 1e-3, height - 1e-3), (people, 2)).astype(np.float32)
    density = density_map(points, height, width)
    tall = density / max(float(density.max()), 1e-6)
    return (0.9 * tall + rng.uniform(0, 0.05, tall.shape)).astype(np.float32)


def peaks_group(height: int, width: int, people: int) -> Group:
    """All of :data:`LABELS` on one map."""
    heatmap = crowd_map(height, width, people)
    points, scores = reference.find_peaks(heatmap, _THRESHOLD)

    def check(label: str, found: Any) -> None:
        if label.startswith("engine"):
            same = np.array_equal(found[0], points) and np.array_equal(found[1], scores)
        else:
            # In any order; the heights tell the cells apart.
            rows, columns = found
            same = np.array_equal(np.sort(heatmap[rows, columns]), np.sort(scores))
        if not same:
            raise WrongResultError(f"{label} finds other peaks than the oracle's {len(scores)}; it is not timed")

    def figures(label: str, timing: Timing) -> dict[str, Any]:
        return {"gbps": heatmap.nbytes / timing.percentile(50) / 1e6}

    ways = {label: functools.partial(_WAYS[label], heatmap) for label in LABELS}
    settings = {"height": height, "width": width, "people": people}
    return Group("find_peaks", f"{height}x{width}, {len(scores)} peaks", ways, check, settings, figures)


def _engine(heatmap: np.ndarray) -> Way:
    return Way(lambda: _core.find_peaks(heatmap, _THRESHOLD))


def _skimage(heatmap: np.ndarray) -> Way:
    from skimage.feature import peak_local_max

    def call() -> tuple[np.ndarray, np.ndarray]:
        found = peak_local_max(heatmap, min_distance=1, threshold_abs=_THRESHOLD, exclude_border=False)
        return found[:, 0], found[:, 1]

    return Way(call)


def _scipy(heatmap: np.ndarray) -> Way:
    from scipy.ndimage import maximum_filter

    def call() -> Any:
        highest = maximum_filter(heatmap, size=3, mode="constant", cval=-np.inf)
        return np.nonzero((heatmap == highest) & (heatmap >= _THRESHOLD))

    return Way(call)


def _torch(heatmap: np.ndarray) -> Way:
    import torch
    from torch.nn import functional as F

    tensor = torch.from_numpy(heatmap)[None, None]

    def call() -> Any:
        with torch.inference_mode():
            highest = F.max_pool2d(tensor, 3, stride=1, padding=1)
            found = ((tensor == highest) & (tensor >= _THRESHOLD))[0, 0].nonzero(as_tuple=True)
        return tuple(x.numpy() for x in found)

    return Way(call)


_WAYS: dict[str, Callable[..., Way]] = {
    "engine float32": _engine,
    "skimage's peak_local_max": _skimage,
    "SciPy's maximum_filter": _scipy,
    "max-pool, PyTorch": _torch,
    "engine float32 on cuda": gpu_peaks,
}
