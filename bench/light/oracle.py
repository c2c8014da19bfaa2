"""Each compiled kernel, at five shapes, against the float64 oracle; its outputs are filled with NaN before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from suite.gpu import Gpu
from suite.peaks import crowd_map
from tolerances import GPU_KERNELS, Tolerance

from engine.backends.cuda.arrays import DeviceArray, from_storage, to_storage
from engine.bundle.bundle import Bundle, load_bundle
from engine.bundle.stages import SplitStage
from engine.config import FEATURE_STRIDE
from engine.diffusion.sampler import ddim_steps
from engine.kernels import reference
from light.report import Report

# [B, H, W]; [B, L, h, w]; (rows, columns); (samples, height, width) of the maps; (height, width, people).
ATTENTION = ((1, 1, 1), (1, 3, 5), (2, 17, 33), (1, 48, 64), (1, 96, 128))
DDIM = ((1, 16, 1, 1), (2, 16, 2, 3), (1, 16, 19, 23), (2, 16, 48, 64), (1, 16, 96, 128))
PIXELS = ((1, 1), (33, 301), (40, 72), (481, 640), (768, 1024))
HEADS = ((1, 1, 1), (3, 19, 101), (2, 40, 61), (4, 96, 121), (2, 384, 512))
PEAKS = ((1, 1, 1), (20, 30, 6), (33, 77, 20), (301, 257, 90), (384, 512, 300))


@dataclass(frozen=True)
class Compared:
    """What a kernel gave, what the oracle gives, and how far apart they may be."""

    found: np.ndarray
    expected: np.ndarray
    tolerance: Tolerance

    def error(self) -> float:
        """The largest difference, as a share of what is allowed; NaN counts as infinity. 0 where none is allowed."""
        if self.found.shape != self.expected.shape:
            raise AssertionError(f"shape {self.found.shape}, expected {self.expected.shape}")
        off = np.abs(self.found.astype(np.float64) - self.expected)
        allowed = self.tolerance.absolute + self.tolerance.relative * np.abs(self.expected)
        share = np.where(off == 0, 0.0, off / np.maximum(allowed, 1e-300))
        return float(np.nan_to_num(share, nan=np.inf, posinf=np.inf).max(initial=0.0))


Case = tuple[str, Callable[[Gpu], list[Compared]]]


def compare_all(report: Report, dtype: str) -> None:
    """A row for each kernel and shape: its largest error, as a share of the tolerance."""
    bundle = load_bundle("default")
    for name, run in cases(bundle):
        report.attempt(f"{name}, {dtype}", lambda run=run: _compare(run, bundle, dtype))


def _compare(run: Callable[[Gpu], list[Compared]], bundle: Bundle, dtype: str) -> dict[str, Any]:
    gpu = Gpu(dtype, bundle)
    try:
        error = max(compared.error() for compared in run(gpu))
    finally:
        gpu.close()
    if error > 1:
        raise AssertionError(f"the result is off by {error:.3g} times what is allowed")
    return {"error": error}


def cases(bundle: Bundle, count: int = 5) -> Iterator[Case]:
    """The first ``count`` shapes of each kernel that a bundle has."""
    for depth, channels in attention_sizes(bundle):
        for size in ATTENTION[:count]:
            shape = *size, depth, channels
            yield f"criss_cross_attention {shape}", lambda gpu, shape=shape: attention(gpu, shape)
    for name, function, shapes in (
        ("ddim_update", ddim_update, DDIM), ("preprocess", preprocess, PIXELS), ("head_maps", head_maps, HEADS),
        ("find_peaks", find_peaks, PEAKS),
    ):  # fmt: skip
        for shape in shapes[:count]:
            yield f"{name} {shape}", lambda gpu, function=function, shape=shape: function(gpu, shape)


def attention_sizes(bundle: Bundle) -> list[tuple[int, int]]:
    """Channels of queries and of values of every attention of a bundle."""
    splits = [x for program in bundle.programs.values() for x in program.stages if isinstance(x, SplitStage)]
    return sorted({(split.sizes[0], split.sizes[2]) for split in splits if len(split.sizes) == 3})


def _half(gpu: Gpu, values: np.ndarray) -> np.ndarray:
    """The nearest values that the device can hold."""
    return from_storage(to_storage(values, gpu.dtype), gpu.dtype)


def _empty(gpu: Gpu, shape: tuple[int, ...], dtype: str) -> DeviceArray:
    array = gpu.memory.new(shape, dtype)
    # NaN in each type that it could be.
    gpu.stream.fill(array.buffer, 0xFF)
    return array


def attention(gpu: Gpu, shape: tuple[int, ...]) -> list[Compared]:
    """Of views of one packed array, as the graphs hand them over; ``shape`` is (B, H, W, D, C)."""
    batch, height, width, depth, channels = shape
    packed = _half(gpu, np.random.default_rng(0).standard_normal((batch, height, width, 2 * depth + channels)))
    packed[..., :depth] = _half(gpu, packed[..., :depth] / 8)
    there = gpu.memory.upload(packed, gpu.dtype)
    views = there[..., :depth], there[..., depth : 2 * depth], there[..., 2 * depth :]
    pixels = batch, height, width
    row_acc, row_lse = _empty(gpu, (*pixels, channels), "float32"), _empty(gpu, pixels, "float32")
    out = _empty(gpu, (*pixels, channels), gpu.dtype)
    gpu.kernels.criss_cross_attention(*views, row_acc, row_lse, out)
    expected = reference.criss_cross_attention(*np.split(packed, [depth, 2 * depth], axis=-1))
    return [Compared(gpu.download(out), expected, _tolerance("criss_cross_attention", gpu.dtype))]


def ddim_update(gpu: Gpu, shape: tuple[int, ...]) -> list[Compared]:
    """The second step of three: no coefficient is 0 or 1."""
    x_t, x_0, estimate, change = np.random.default_rng(1).standard_normal((4, *shape)).astype(np.float32)
    step = ddim_steps(3)[1]
    coefficients = (step.alpha, step.sigma, step.alpha_next, step.sigma_next, 0.25, 0.5)
    arrays = _half(gpu, x_t), x_0, estimate, change
    types = gpu.dtype, "float32", "float32", "float32"
    there = [gpu.memory.upload(x, kind) for x, kind in zip(arrays, types, strict=True)]
    gpu.kernels.ddim_update(*there, gpu.memory.upload(np.array(coefficients), "float32"))
    numbers = [float(np.float32(x)) for x in coefficients]
    expected = reference.ddim_update(*arrays, numbers)
    changed = there[0], there[2], there[3]
    return [
        Compared(gpu.download(x), right, _tolerance("ddim_update", x.dtype))
        for x, right in zip(changed, expected, strict=True)
    ]


def preprocess(gpu: Gpu, shape: tuple[int, ...]) -> list[Compared]:
    """Channels forwards and backwards."""
    height, width = shape
    model = load_bundle("default").model
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)
    image = gpu.memory.upload(pixels, "uint8")
    compared = []
    for first, step in ((0, 1), (2, -1)):
        expected = reference.preprocess(pixels[..., ::step], model.pixel_mean, model.pixel_std)
        out = _empty(gpu, expected.shape, gpu.dtype)
        strides = (3 * width, 3, step)
        view = SimpleNamespace(pointer=image.pointer + first, height=height, width=width, strides=strides)
        gpu.kernels.preprocess(view, out)
        compared.append(Compared(gpu.download(out), expected, _tolerance("preprocess", gpu.dtype)))
    return compared


def head_maps(gpu: Gpu, shape: tuple[int, ...]) -> list[Compared]:
    """Latents a little beyond -b .. b, so that both ends are clipped."""
    model = load_bundle("default").model
    samples, height, width = shape
    factor = FEATURE_STRIDE // model.map_stride
    rng, latent = np.random.default_rng(3), (samples, factor**2, -(-height // factor), -(-width // factor))
    estimates = rng.uniform(-1.2 * model.map_scale, 1.2 * model.map_scale, latent).astype(np.float32)
    changes = rng.uniform(0, 1, latent).astype(np.float32)
    expected = reference.head_maps(estimates, changes, 1 / (2 * model.map_scale), (0, 0, height, width))
    maps = [_empty(gpu, (height, width), "float32") for _ in range(2)]
    gpu.kernels.head_maps(*(gpu.memory.upload(x, "float32") for x in (estimates, changes)), *maps)
    tolerance = _tolerance("head_maps", "float32")
    return [Compared(gpu.download(x), right, tolerance) for x, right in zip(maps, expected, strict=True)]


def find_peaks(gpu: Gpu, shape: tuple[int, ...]) -> list[Compared]:
    """Exactly the same peaks in the same order; a map of one cell too."""
    height, width, people = shape
    heatmap = crowd_map(height, width, people)
    peaks = gpu.kernels.new_peaks(gpu.memory, height, width)
    limit = gpu.memory.upload(np.array([0.1]), "float32")
    gpu.kernels.find_peaks(gpu.memory.upload(heatmap, "float32"), limit, peaks)
    total = gpu.download(peaks.total)
    points, scores = reference.find_peaks(heatmap, float(np.float32(0.1)))
    exact = Tolerance(0.0, 0.0)
    return [
        Compared(total, np.array([len(scores)]), exact),
        Compared(gpu.download(peaks.points)[: len(scores)], points, exact),
        Compared(gpu.download(peaks.scores)[: len(scores)], scores, exact),
    ]


def _tolerance(kernel: str, dtype: str) -> Tolerance:
    return GPU_KERNELS[kernel, f"torch.{dtype}"]
