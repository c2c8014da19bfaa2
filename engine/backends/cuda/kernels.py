"""The compiled kernels as calls on device arrays, each queued in one stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.backends.cuda.arrays import DeviceArray, DeviceMemory
from engine.backends.cuda.compiled import Variant
from engine.backends.cuda.launcher import Launcher
from engine.backends.cuda.streams import Stream
from engine.config import FEATURE_STRIDE, ModelConfig
from engine.errors import BundleError

# Triton's names of the types that activations may have.
_TRITON_TYPES = {"float16": "fp16", "bfloat16": "bf16"}
# Offsets within one picture are int32 in the kernels.
_MOST_OFFSET = 2**31 - 1
# Programs of a launch along x, y and z.
Grid = tuple[int, int, int]


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
        counts: int32, one for each program of the kernel.
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


def attention_grid(lines: int, length: int, channels: int, block: int, channel_block: int) -> Grid:
    """One program for each line of the batch, block of pixels of the line, and block of channels.

    >>> attention_grid(lines=96, length=130, channels=192, block=64, channel_block=64)
    (96, 3, 3)
    """
    return lines, _blocks(length, block), channels // channel_block


def rows_grid(rows: int, width: int, block: int) -> Grid:
    """One program for each row, and block of its pixels or cells.

    >>> rows_grid(rows=5, width=257, block=256)
    (5, 2, 1)
    """
    return rows, _blocks(width, block), 1


def flat_grid(size: int, block: int) -> Grid:
    """One program for each block of elements, whatever their shape.

    >>> flat_grid(size=1024, block=1024)
    (1, 1, 1)
    """
    return _blocks(size, block), 1, 1


class Kernels:
    """The kernels of one model in one half type, on one stream. Only :meth:`new_peaks` allocates, and nothing waits.

    Args:
        launcher: of the bundle's compiled kernels.
        stream: that the launches are queued in.
        model: shape of the network.
        compute_type: "float16" or "bfloat16".

    Every method asserts that the arrays are as large as the launch takes them for: what a bundle may get wrong was
    refused before.
    """

    def __init__(self, launcher: Launcher, stream: Stream, model: ModelConfig, compute_type: str):
        self._launcher, self._stream, self._model = launcher, stream, model
        self._compute_type = compute_type
        self._half = {"dtype": _TRITON_TYPES[compute_type]}

    def preprocess(self, image: Pixels, out: DeviceArray) -> None:
        """Normalise and pad a picture to ``out`` [1, 3, H', W'], half."""
        _, _, padded_height, padded_width = out.shape
        assert out.dtype == self._compute_type
        assert out.shape[:2] == (1, 3)
        assert image.height <= padded_height
        assert image.width <= padded_width
        row, column, channel = image.strides
        arguments = {
            "image": image.pointer, "out": out.pointer, "height": image.height, "width": image.width,
            "row_stride": row, "column_stride": column, "channel_stride": channel,
            "padded_height": padded_height, "padded_width": padded_width,
            # Rounded as the CPU path rounds them.
            "scale": float(np.float32(1 / (255 * self._model.pixel_std))),
            "shift": float(np.float32(self._model.pixel_mean / self._model.pixel_std)),
        }  # fmt: skip
        kernel = self._launcher.find("preprocess", self._half)
        grid = rows_grid(padded_height, padded_width, kernel.blocks["BLOCK"])
        self._launcher.launch(kernel, grid, arguments, self._stream)

    def criss_cross_attention(
        self,
        q: DeviceArray,
        k: DeviceArray,
        v: DeviceArray,
        row_acc: DeviceArray,
        row_lse: DeviceArray,
        out: DeviceArray,
    ) -> None:
        """q, k [B, H, W, D] and v [B, H, W, C] -> out; ``row_acc`` [B, H, W, C] and ``row_lse`` [B, H, W] are float32.

        Raises:
            BundleError: they are of another type than the kernels compute in, or too large for their offsets.
            BackendError: none was compiled for such numbers of channels.
        """
        batch, height, width, depth = q.shape
        channels = v.shape[3]
        if v.dtype != self._compute_type or height * width * max(q.step, k.step, v.step) > _MOST_OFFSET:
            raise BundleError(
                f"criss_cross_attention gets {v.dtype} values of shape {list(v.shape)}, {v.step} apart; expected "
                f"{self._compute_type} and fewer than 2^31 elements a picture: export the bundle again"
            )
        assert k.shape == q.shape
        assert out.shape == row_acc.shape == v.shape == (batch, height, width, channels)
        assert row_lse.shape == v.shape[:3]
        assert q.dtype == k.dtype == v.dtype == out.dtype == self._compute_type
        assert row_acc.dtype == row_lse.dtype == "float32"
        variant = {**self._half, "D": depth, "C": channels}
        shared = {
            "q": q.pointer, "k": k.pointer, "v": v.pointer, "row_acc": row_acc.pointer, "row_lse": row_lse.pointer,
            "width": width, "q_step": q.step, "k_step": k.step, "v_step": v.step,
        }  # fmt: skip
        columns = {**shared, "out": out.pointer, "height": height}
        self._attend("rows", variant, shared, batch * height, width)
        self._attend("columns", variant, columns, batch * width, height)

    def _attend(self, part: str, variant: Variant, arguments: dict[str, int], lines: int, length: int) -> None:
        kernel = self._launcher.find(f"criss_cross_attention.{part}", variant)
        blocks = kernel.blocks
        grid = attention_grid(lines, length, variant["C"], blocks["BLOCK_M"], blocks["BLOCK_C"])
        self._launcher.launch(kernel, grid, arguments, self._stream)

    def ddim_update(
        self, x_t: DeviceArray, x_0: DeviceArray, estimate: DeviceArray, change: DeviceArray, coefficients: DeviceArray
    ) -> None:
        """One step in place in half ``x_t``, float32 ``estimate`` and ``change``; ``coefficients`` are float32 [6]."""
        assert x_0.shape == estimate.shape == change.shape == x_t.shape
        assert x_t.dtype == self._compute_type
        assert x_0.dtype == estimate.dtype == change.dtype == coefficients.dtype == "float32"
        assert coefficients.shape == (6,)
        size = math.prod(x_t.shape)
        arguments = {
            "x_t": x_t.pointer, "x_0": x_0.pointer, "estimate": estimate.pointer, "change": change.pointer,
            "coefficients": coefficients.pointer, "size": size,
        }  # fmt: skip
        kernel = self._launcher.find("ddim_update", self._half)
        self._launcher.launch(kernel, flat_grid(size, kernel.blocks["BLOCK"]), arguments, self._stream)

    def head_maps(
        self, estimates: DeviceArray, changes: DeviceArray, heatmap: DeviceArray, spread: DeviceArray
    ) -> None:
        """Latents [S, L, h, w] -> maps [height, width], as much of the upper left as there is room for."""
        samples, channels, latent_height, latent_width = estimates.shape
        height, width = heatmap.shape
        factor = FEATURE_STRIDE // self._model.map_stride
        assert changes.shape == estimates.shape
        assert channels == factor**2
        assert spread.shape == heatmap.shape
        assert height <= latent_height * factor
        assert width <= latent_width * factor
        assert estimates.dtype == changes.dtype == heatmap.dtype == spread.dtype == "float32"
        arguments = {
            "estimates": estimates.pointer, "changes": changes.pointer, "heatmap": heatmap.pointer,
            "spread": spread.pointer, "samples": samples, "latent_height": latent_height,
            "latent_width": latent_width, "top": 0, "left": 0, "width": width, "out_step": width,
            "scale": float(np.float32(1 / (2 * self._model.map_scale))),
        }  # fmt: skip
        kernel = self._launcher.find("head_maps", {"factor": factor})
        self._launcher.launch(kernel, rows_grid(height, width, kernel.blocks["BLOCK"]), arguments, self._stream)

    def new_peaks(self, memory: DeviceMemory, height: int, width: int) -> Peaks:
        """Memory for the peaks of a map [height, width]: a count for each program that will write one.

        Raises:
            CudaOutOfMemoryError: the device has not as much memory.
            BackendError: the bundle has no such kernel.
            BundleError: its two halves do not fit together.
        """
        capacity = peak_capacity(height, width)
        return Peaks(
            points=memory.new((capacity, 2), "float32"),
            scores=memory.new((capacity,), "float32"),
            total=memory.new((1,), "int32"),
            counts=memory.new(self._peaks_grid(height, width)[:1], "int32"),
        )

    def find_peaks(self, heatmap: DeviceArray, threshold: DeviceArray, peaks: Peaks) -> None:
        """Peaks of ``heatmap`` [h, w] that reach ``threshold`` [1], both float32."""
        height, width = heatmap.shape
        grid = self._peaks_grid(height, width)
        (capacity,) = peaks.scores.shape
        assert heatmap.dtype == threshold.dtype == peaks.points.dtype == peaks.scores.dtype == "float32"
        assert peaks.counts.dtype == peaks.total.dtype == "int32"
        assert peaks.counts.shape == grid[:1]
        assert peaks.points.shape == (capacity, 2)
        shared = {
            "heatmap": heatmap.pointer, "threshold": threshold.pointer, "counts": peaks.counts.pointer,
            "height": height, "width": width,
        }  # fmt: skip
        written = {
            **shared, "points": peaks.points.pointer, "scores": peaks.scores.pointer, "total": peaks.total.pointer,
            "capacity": capacity,
        }  # fmt: skip
        for part, arguments in (("count", shared), ("write", written)):
            self._launcher.launch(self._launcher.find(f"find_peaks.{part}", {}), grid, arguments, self._stream)

    def _peaks_grid(self, height: int, width: int) -> Grid:
        """Of both launches: the second one reads what each program of the first has counted."""
        first, second = (self._launcher.find(f"find_peaks.{part}", {}).blocks["BLOCK"] for part in ("count", "write"))
        if first != second:
            raise BundleError(
                f"find_peaks was compiled to count in blocks of {first} cells and to write in blocks of {second}; "
                "run crowd export cubins on the bundle"
            )
        return flat_grid(height * width, first)


def _blocks(length: int, block: int) -> int:
    """Blocks that cover a length."""
    return -(-length // block)
