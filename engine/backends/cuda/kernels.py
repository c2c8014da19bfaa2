"""The compiled kernels as calls on device arrays, each queued in one stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.backends.cuda.arrays import DeviceArray
from engine.backends.cuda.launcher import Launcher
from engine.backends.cuda.streams import Stream
from engine.config import FEATURE_STRIDE, ModelConfig

# Triton's names of the types that activations may have.
_TRITON_TYPES = {"float16": "fp16", "bfloat16": "bf16"}
# Cells that one program of find_peaks looks at; it keeps a count for each.
PEAK_BLOCK = 256


class Pixels(Protocol):
    """An uint8 picture in device memory; strides in bytes from one row, column and channel to the next."""

    @property
    def pointer(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def strides(self) -> tuple[int, int, int]: ...


@dataclass(frozen=True)
class Peaks:
    """What ``find_peaks`` writes, and the memory that it needs.

    Attributes:
        points: float32 [capacity, 2]; only the first ``total`` are written, likewise of ``scores``.
        scores: float32 [capacity].
        total: int32 [1].
        counts: int32, one for each block of cells.
    """

    points: DeviceArray
    scores: DeviceArray
    total: DeviceArray
    counts: DeviceArray


def peak_capacity(height: int, width: int) -> int:
    """The most peaks that a map can have: no two of them touch, so each 2 x 2 cells hold one at most.

    >>> peak_capacity(3, 4)
    4
    """
    return math.ceil(height / 2) * math.ceil(width / 2)


class Kernels:
    """The kernels of one model in one half type, on one stream. Nothing here allocates or waits.

    Args:
        launcher: of the bundle's compiled kernels.
        stream: that the launches are queued in.
        model: shape of the network.
        compute_type: "float16" or "bfloat16".
    """

    def __init__(self, launcher: Launcher, stream: Stream, model: ModelConfig, compute_type: str):
        self._launcher, self._stream, self._model = launcher, stream, model
        self._half = {"dtype": _TRITON_TYPES[compute_type]}

    def preprocess(self, image: Pixels, out: DeviceArray) -> None:
        """Normalise and pad a picture to ``out`` [1, 3, H', W'], half."""
        row, column, channel = image.strides
        arguments = {
            "image": image.pointer, "out": out.pointer, "height": image.height, "width": image.width,
            "row_stride": row, "column_stride": column, "channel_stride": channel,
            "padded_height": out.shape[2], "padded_width": out.shape[3],
            # Rounded as the CPU path rounds them.
            "scale": float(np.float32(1 / (255 * self._model.pixel_std))),
            "shift": float(np.float32(self._model.pixel_mean / self._model.pixel_std)),
        }  # fmt: skip
        self._launcher.launch("preprocess", self._half, arguments, self._stream)

    def criss_cross_attention(
        self, q: DeviceArray, k: DeviceArray, v: DeviceArray, partial: DeviceArray, level: DeviceArray, out: DeviceArray
    ) -> None:
        """q, k [B, H, W, D] and v [B, H, W, C] -> out; ``partial`` [B, H, W, C] and ``level`` [B, H, W] are float32."""
        batch, height, width, depth = q.shape
        variant = {**self._half, "D": depth, "C": v.shape[3]}
        shared = {
            "q": q.pointer, "k": k.pointer, "v": v.pointer, "partial": partial.pointer, "level": level.pointer,
            "width": width, "q_step": q.step, "k_step": k.step, "v_step": v.step,
        }  # fmt: skip
        launch = self._launcher.launch
        launch("criss_cross_attention.rows", variant, shared, self._stream, {"batch": batch, "height": height})
        columns = {**shared, "out": out.pointer, "height": height}
        launch("criss_cross_attention.columns", variant, columns, self._stream, {"batch": batch})

    def ddim_update(
        self, x_t: DeviceArray, x_0: DeviceArray, estimate: DeviceArray, change: DeviceArray, coefficients: DeviceArray
    ) -> None:
        """One step in place in half ``x_t``, float32 ``estimate`` and ``change``; ``coefficients`` are float32 [6]."""
        arguments = {
            "x_t": x_t.pointer, "x_0": x_0.pointer, "estimate": estimate.pointer, "change": change.pointer,
            "coefficients": coefficients.pointer, "size": math.prod(x_t.shape),
        }  # fmt: skip
        self._launcher.launch("ddim_update", self._half, arguments, self._stream)

    def head_maps(
        self, estimates: DeviceArray, changes: DeviceArray, heatmap: DeviceArray, spread: DeviceArray
    ) -> None:
        """Latents [S, L, h, w] -> maps [height, width], as much of the upper left as there is room for."""
        samples, _, latent_height, latent_width = estimates.shape
        height, width = heatmap.shape
        arguments = {
            "estimates": estimates.pointer, "changes": changes.pointer, "heatmap": heatmap.pointer,
            "spread": spread.pointer, "samples": samples, "latent_height": latent_height,
            "latent_width": latent_width, "top": 0, "left": 0, "width": width, "out_step": width,
            "scale": float(np.float32(1 / (2 * self._model.map_scale))),
        }  # fmt: skip
        variant = {"factor": FEATURE_STRIDE // self._model.map_stride}
        self._launcher.launch("head_maps", variant, arguments, self._stream, {"height": height})

    def find_peaks(self, heatmap: DeviceArray, threshold: DeviceArray, peaks: Peaks) -> None:
        """Peaks of ``heatmap`` [h, w] that reach ``threshold`` [1], both float32."""
        height, width = heatmap.shape
        shared = {
            "heatmap": heatmap.pointer, "threshold": threshold.pointer, "counts": peaks.counts.pointer,
            "height": height, "width": width,
        }  # fmt: skip
        self._launcher.launch("find_peaks.count", {}, shared, self._stream)
        written = {
            **shared, "points": peaks.points.pointer, "scores": peaks.scores.pointer, "total": peaks.total.pointer,
            "capacity": peaks.scores.shape[0],
        }  # fmt: skip
        self._launcher.launch("find_peaks.write", {}, written, self._stream)
