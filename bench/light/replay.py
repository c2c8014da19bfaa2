"""A graph of kernels, recorded and replayed a thousand times: the same bytes every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from suite.gpu import Gpu

from engine.backends.cuda.graphs import record
from engine.bundle.bundle import load_bundle
from light.oracle import attention_sizes
from light.report import Report

_REPLAYS = 1000


def replay(report: Report, replays: int = _REPLAYS, size: tuple[int, int] = (48, 64)) -> None:
    """A row for each half type."""
    for dtype in ("float16", "bfloat16"):
        report.attempt(f"{replays} replays, {dtype}", lambda dtype=dtype: _replay(dtype, replays, size))


def _replay(dtype: str, replays: int, size: tuple[int, int]) -> dict[str, Any]:
    bundle = load_bundle("default")
    gpu, (depth, channels) = Gpu(dtype, bundle), attention_sizes(bundle)[0]
    try:
        height, width = size
        values = np.random.default_rng(4).standard_normal((1, height, width, 2 * depth + channels))
        packed = gpu.memory.upload(values, dtype)
        q, k, v = packed[..., :depth], packed[..., depth : 2 * depth], packed[..., 2 * depth :]
        new = gpu.memory.new
        row_acc, row_lse, out = new(v.shape, "float32"), new(v.shape[:3], "float32"), new(v.shape, dtype)

        def work() -> None:
            gpu.kernels.criss_cross_attention(q, k, v, row_acc, row_lse, out)

        work()
        first = gpu.download(out)
        graph = record(gpu.stream, work)
        different = 0
        for _ in range(replays):
            gpu.stream.fill(out.buffer, 0xFF)
            graph.launch(gpu.stream)
            different += not np.array_equal(gpu.download(out), first)
        graph.close()
    finally:
        gpu.close()
    if different or not np.isfinite(first).all():
        raise AssertionError(f"{different} of {replays} replays differ from the plain run")
    return {"replays": replays}
