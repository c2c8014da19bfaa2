"""A machine with a simulated GPU and TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.tensorrt.simulated_gpu import SimulatedGpu, SimulatedTensorRT

import engine
from engine.backends.tensorrt.library import TensorRT
from engine.bundle.bundle import Bundle


class Machine:
    """A machine with a simulated GPU and TensorRT, on which counters are made."""

    def __init__(self, bundle: Bundle, cache: Path, rtx: bool = False, **options: Any):
        self.bundle, self._cache = bundle, cache
        self.gpu = SimulatedGpu(bundle.model, **options)
        self.api = SimulatedTensorRT(self.gpu, rtx)
        self.library = TensorRT(self.api, "tensorrt_rtx" if rtx else "tensorrt")

    def counter(self, **arguments: Any) -> engine.CrowdCounter:
        """A counter on the GPU."""
        return engine.CrowdCounter(self.bundle.path, **{"device": "cuda", "cache_dir": self._cache, **arguments})
