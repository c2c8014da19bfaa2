"""Times of the compiled kernels in CUDA graphs, and of the same in PyTorch: eager, and by torch.compile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from suite.gpu import gpu_attention, gpu_ddim, gpu_peaks
from suite.groups import Way
from suite.peaks import crowd_map
from torch import Tensor

from engine.bundle.bundle import load_bundle
from light.clock import percentiles, time_call
from light.oracle import attention_sizes
from light.report import Report


@dataclass(frozen=True)
class Plan:
    """What is timed, and for how long.

    Attributes:
        device: of PyTorch's tensors.
        maps: heights and widths of the attentions, at strides 16 and 8 of the picture.
        calls: of a stint.
        stints: of a way.
    """

    device: str = "cuda"
    maps: tuple[tuple[int, int], ...] = ((48, 64), (96, 128))
    calls: int = 200
    stints: int = 15


def time_kernels(report: Report, plan: Plan | None = None) -> None:
    """A row for each kernel, size and way; another part has checked the kernels against the oracle."""
    plan = plan or Plan()
    for depth, channels in attention_sizes(load_bundle("default")):
        for height, width in plan.maps:
            _time_attention(report, plan, (1, height, width), depth, channels)
    height, width = plan.maps[-1]
    _time_ddim(report, plan, (1, 16, height, width))
    _time_peaks(report, plan, (4 * height, 4 * width))


def _time_attention(report: Report, plan: Plan, pixels: tuple[int, int, int], depth: int, channels: int) -> None:
    from engine.model.attention import attend

    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((*pixels, n)).astype(np.float32) for n in (depth, depth, channels))
    q = q / 8
    there = [torch.from_numpy(x).to(plan.device, torch.float16) for x in (q, k, v)]
    name = f"criss_cross_attention {pixels}, D {depth}, C {channels}, float16"
    _time_ways(report, plan, name, lambda: gpu_attention("float16", q, k, v), lambda: attend(*there))


def _time_ddim(report: Report, plan: Plan, shape: tuple[int, ...]) -> None:
    arrays = tuple(np.random.default_rng(1).standard_normal((4, *shape)).astype(np.float32))
    coefficients = (0.5, 0.8, 0.9, 0.4, 0.25, 0.5)
    x_t, x_0, estimate, change = (torch.from_numpy(x).to(plan.device) for x in arrays)
    noisy = x_t.half()

    def formula() -> tuple[Tensor, ...]:
        alpha, sigma, alpha_next, sigma_next, limit, weight = coefficients
        new = x_0.clamp(-limit, limit)
        noise = (noisy.float() - alpha * new) / max(sigma, 1e-8)
        moved = (alpha_next * new + sigma_next * noise).half()
        return moved, new, change + weight * (new - estimate).abs()

    name = f"ddim_update {shape}, float16"
    _time_ways(report, plan, name, lambda: gpu_ddim("float16", arrays, coefficients), formula)


def _time_peaks(report: Report, plan: Plan, size: tuple[int, int]) -> None:
    heatmap = crowd_map(*size, 300)
    there = torch.from_numpy(heatmap).to(plan.device)

    def formula() -> Tensor:
        # Cells alone, without the offsets within them; it waits for the device to say how many there are.
        highest = F.max_pool2d(there[None], 3, 1, 1)[0]
        return ((there == highest) & (there >= 0.1)).nonzero()

    _time_ways(report, plan, f"find_peaks {size}", lambda: gpu_peaks(heatmap), formula)


def _time_ways(report: Report, plan: Plan, name: str, ours: Callable[[], Way], formula: Callable[[], Any]) -> None:
    report.attempt(f"{name}: engine", lambda: _time_way(ours(), plan))
    report.attempt(f"{name}: PyTorch eager", lambda: time_call(formula))
    report.attempt(f"{name}: torch.compile", lambda: time_call(torch.compile(formula)))


def _time_way(way: Way, plan: Plan) -> dict[str, float]:
    try:
        way.call()
        assert way.stint is not None
        return percentiles([way.stint(plan.calls) / plan.calls for _ in range(plan.stints)])
    finally:
        way.close()
