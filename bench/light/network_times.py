"""Times of the encoder, a decoder step and a whole count of 1024 x 768 pixels: eager, compiled, and as one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import engine
from engine.backends.torch.kernels import register_triton_kernels
from engine.bundle.bundle import load_bundle
from engine.config import FEATURE_STRIDE
from engine.model.bundle_network import load_bundle_network
from engine.model.layers import channels_last
from light.clock import percentiles, time_call
from light.report import Report
from light.whole import TYPES, why_no_tensorrt

SIZE = 768, 1024
_COUNTS = 50


def time_network(report: Report, device: str = "cuda", size: tuple[int, int] = SIZE) -> None:
    """Rows for both halves of the network in float16: with our attention kernel, and with none of our kernels."""
    bundle = load_bundle("default")
    network = channels_last(load_bundle_network(bundle).to(device))
    height, width = size
    image = torch.randn((1, 3, height, width), device=device).contiguous(memory_format=torch.channels_last)
    latent = (1, bundle.model.latent_channels, height // FEATURE_STRIDE, width // FEATURE_STRIDE)
    x_t, t = torch.randn(latent, device=device), torch.full((1,), 0.5, device=device)
    with torch.inference_mode(), torch.autocast(device, torch.float16):
        features = network.encoder(image)[0]
    halves = {"encoder": lambda: network.encoder(image), "decoder step": lambda: network.decoder(features, x_t, t)}
    # First as PyTorch alone would run it, then with the kernel, which stays registered.
    for kernels in ("PyTorch's operators", "our attention kernel"):
        if kernels.startswith("our") and device == "cuda":
            register_triton_kernels()
        for name, call in halves.items():
            for how, run in (("eager", call), ("torch.compile", torch.compile(call))):
                what = f"{name} {height}x{width}, float16, {kernels}: {how}"
                report.attempt(what, lambda run=run: _time_half(run, device))


def _time_half(call: Callable[[], Any], device: str) -> dict[str, float]:
    def settled() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.float16):
            call()

    return time_call(settled)


def time_counts(report: Report, size: tuple[int, int] = SIZE) -> None:
    """Rows for whole counts by each backend that is there, in every type; the host's clock and the GPU's own time."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for backend in ("torch",) if why_no_tensorrt() else ("torch", "tensorrt"):
        for kind in TYPES[backend]:
            what = f"count {size[0]}x{size[1]}, {backend}, {kind}"
            report.attempt(what, lambda backend=backend, kind=kind: _time_count(image, backend, kind))


def _time_count(image: np.ndarray, backend: str, kind: str) -> dict[str, Any]:
    with engine.CrowdCounter(device="cuda", backend=backend, compute_type=kind) as counter:
        for _ in range(3):
            counter.count(image)
        timings = [counter.count(image).timings for _ in range(_COUNTS)]
    stages = {name: round(float(np.median([x[name] for x in timings])), 4) for name in timings[0]}
    return {**percentiles([x["total"] for x in timings]), "stages_ms": stages}
