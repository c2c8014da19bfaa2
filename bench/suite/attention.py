"""Criss-cross attention, ours and as a user would otherwise write it: one joint softmax over row and column."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import _core
from engine.cli.timing import Timing, wall
from engine.kernels import reference
from suite.checks import check_close
from suite.gpu import gpu_attention
from suite.groups import Group, MissingError, Way
from suite.rounding import from_bfloat16, to_bfloat16

LABELS = (
    "engine float32",
    "engine bfloat16",
    "CCNet's, PyTorch float32",
    "bmm and merge, PyTorch float32",
    "bmm and merge, PyTorch bfloat16",
    "SDPA rows and columns, PyTorch float32",
    "SDPA rows and columns, PyTorch bfloat16",
    "engine float16 on cuda",
    "engine bfloat16 on cuda",
)


@dataclass(frozen=True)
class AttentionShape:
    """Queries and keys [B, H, W, D], values [B, H, W, C]."""

    batch: int
    height: int
    width: int
    depth: int
    channels: int

    def __str__(self) -> str:
        return f"{self.batch}x{self.height}x{self.width}, D {self.depth}, C {self.channels}"

    @property
    def flops(self) -> int:
        """Multiplications and additions of the two products; exponentials are not counted."""
        pixels = self.batch * self.height * self.width
        return 2 * pixels * (self.height + self.width - 1) * (self.depth + self.channels)

    def nbytes(self, size: int) -> int:
        """Of q, k, v and the output, each moved once, with elements of ``size`` bytes."""
        return self.batch * self.height * self.width * 2 * (self.depth + self.channels) * size


def attention_group(shape: AttentionShape) -> Group:
    """All of :data:`LABELS` on one shape."""
    b, h, w, d, c = shape.batch, shape.height, shape.width, shape.depth, shape.channels
    packed = np.random.default_rng(0).standard_normal((b, h, w, 2 * d + c)).astype(np.float32)
    # Logits of size 1, as the model's own are: it scales the queries.
    packed[..., :d] *= np.float32(d**-0.5)
    # Values that every type holds exactly, so that all compute the same.
    packed = from_bfloat16(to_bfloat16(packed))
    inputs = packed[..., :d], packed[..., d : 2 * d], packed[..., 2 * d :]
    expected = reference.criss_cross_attention(*inputs)

    def check(label: str, out: np.ndarray) -> None:
        check_close("criss_cross_attention", label, out, expected)

    def figures(label: str, timing: Timing) -> dict[str, Any]:
        seconds = timing.percentile(50) / 1e3
        size = 4 if "float32" in label else 2
        return {"gflops": shape.flops / seconds / 1e9, "gbps": shape.nbytes(size) / seconds / 1e9}

    ways = {label: functools.partial(_WAYS[label], *inputs) for label in LABELS}
    settings = {"batch": b, "height": h, "width": w}
    return Group("criss_cross_attention", str(shape), ways, check, settings, figures)


def _engine(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Way:
    out = np.full(v.shape, np.nan, np.float32)

    def call() -> np.ndarray:
        _core.criss_cross_attention(q, k, v, out)
        return out

    return Way(call)


def _engine_bfloat16(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Way:
    packed = to_bfloat16(np.concatenate([q, k, v], axis=-1))
    q, k, v = np.split(packed, [q.shape[-1], 2 * q.shape[-1]], axis=-1)
    # Bits of NaN.
    out = np.full(v.shape, 0x7FC0, np.uint16)

    def call() -> np.ndarray:
        _core.criss_cross_attention(q, k, v, out)
        return from_bfloat16(out)

    try:
        _core.criss_cross_attention(q, k, v, out)
    except (ValueError, TypeError) as error:
        raise MissingError(f"the C++ kernel does not take bfloat16: {error}") from error
    return Way(call, wall(lambda: _core.criss_cross_attention(q, k, v, out)))


def _torch_way(formulation: str, dtype: str) -> Callable[..., Way]:
    def make(*inputs: np.ndarray) -> Way:
        import torch

        from suite import torch_attention

        function = getattr(torch_attention, formulation)
        q, k, v = (torch_attention.prepare(formulation, x, getattr(torch, dtype)) for x in inputs)

        def call() -> np.ndarray:
            with torch.inference_mode():
                return torch_attention.finish(formulation, function(q, k, v))

        return Way(call)

    return make


_WAYS: dict[str, Callable[..., Way]] = {
    "engine float32": _engine,
    "engine bfloat16": _engine_bfloat16,
    "CCNet's, PyTorch float32": _torch_way("ccnet", "float32"),
    "bmm and merge, PyTorch float32": _torch_way("bmm_and_merge", "float32"),
    "bmm and merge, PyTorch bfloat16": _torch_way("bmm_and_merge", "bfloat16"),
    "SDPA rows and columns, PyTorch float32": _torch_way("sdpa_rows_and_columns", "float32"),
    "SDPA rows and columns, PyTorch bfloat16": _torch_way("sdpa_rows_and_columns", "bfloat16"),
    "engine float16 on cuda": functools.partial(gpu_attention, "float16"),
    "engine bfloat16 on cuda": functools.partial(gpu_attention, "bfloat16"),
}
