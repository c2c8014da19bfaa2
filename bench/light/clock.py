"""Times of PyTorch calls on the GPU, by CUDA's events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

_STINTS = 15
# Milliseconds of one stint: events are good to a microsecond.
_LENGTH = 5.0
_MOST_CALLS = 1000


def time_call(call: Callable[[], object]) -> dict[str, float]:
    """Milliseconds of one call as the device sees them, gaps between its kernels included: 20th, 50th, 80th percentile.

    The first calls warm up, and compile what compiles at its first use.
    """
    for _ in range(3):
        call()
    calls = max(1, min(_MOST_CALLS, round(_LENGTH / max(_stint(call, 3), 1e-3))))
    samples = [_stint(call, calls) for _ in range(_STINTS)]
    return percentiles(samples)


def percentiles(samples: list[float]) -> dict[str, float]:
    """As of :func:`time_call`."""
    low, middle, high = (float(x) for x in np.percentile(samples, (20, 50, 80)))
    return {"p20_ms": round(low, 5), "p50_ms": round(middle, 5), "p80_ms": round(high, 5)}


def _stint(call: Callable[[], object], calls: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls
