"""Every backend and compute type that counts on this machine, found by asking each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.config import BACKENDS, COMPUTE_TYPES, PERFORMANCES
from engine.counter import CrowdCounter
from engine.diffusion.head_map import KERNEL
from engine.errors import EngineError
from engine.result import CountResult

# What a backend raises that is not there, and what a damaged install of its runtime raises when it is imported.
MISSING = (EngineError, ImportError, OSError, RuntimeError)


@dataclass(frozen=True)
class Variant:
    """A backend with a compute type on a device, and how it uses the cores.

    >>> str(Variant("openvino", "bfloat16", "cpu")), str(Variant("torch", "float16", "cuda"))
    ('openvino bfloat16', 'torch float16 on cuda')
    >>> str(Variant("openvino", "float32", "cpu", "throughput"))
    'openvino float32 throughput'
    """

    backend: str
    compute_type: str
    device: str
    performance: str = PERFORMANCES[0]

    def __str__(self) -> str:
        how = "" if self.performance == PERFORMANCES[0] else f" {self.performance}"
        place = "" if self.device == "cpu" else f" on {self.device}"
        return f"{self.backend} {self.compute_type}{how}{place}"

    def counter(self, model: str = "default", **options: Any) -> CrowdCounter:
        """A counter of this variant.

        Args:
            model, options: of :class:`engine.CrowdCounter`.

        Raises:
            EngineError, ImportError, OSError or RuntimeError: it does not run here; see :data:`MISSING`.
        """
        chosen: dict[str, Any] = {"backend": self.backend, "compute_type": self.compute_type, "device": self.device}
        return CrowdCounter(model, **chosen, performance=self.performance, **options)


# What the others have to agree with.
REFERENCE = Variant("torch", "float32", "cpu")


def all_variants(devices: Iterable[str]) -> Iterator[Variant]:
    """Every combination that there could be, the reference first; most machines run a few of them."""
    yield REFERENCE
    for device in devices:
        for backend in BACKENDS:
            for compute_type in COMPUTE_TYPES:
                # Two that are there in name alone: see engine.backends.registry.resolve_backend.
                if (backend == "tensorrt") != (device != "cpu") and backend != "torch":
                    continue
                for performance in PERFORMANCES if backend == "openvino" else PERFORMANCES[:1]:
                    variant = Variant(backend, compute_type, device, performance)
                    if variant != REFERENCE:
                        yield variant


@dataclass(frozen=True)
class Agreement:
    """How far a result may be from the reference's.

    Attributes:
        count: relative; one person is always allowed.
        heatmap: :func:`map_error` of the maps.
    """

    count: float
    heatmap: float


# bfloat16 moves about 3 counts in 100 and a map by 0.03, int8 a map by 0.1; one that lies a cell beside moves by 0.5.
ANY_TYPE = Agreement(count=0.05, heatmap=0.25)

_ONE_HEAD = float(np.linalg.norm(KERNEL))


def map_error(heatmap: np.ndarray, reference: np.ndarray) -> float:
    """Norm of the maps' difference, relative to that of the reference or, if it is larger, of the map of one head.

    >>> reference = np.zeros((64, 64))
    >>> reference[20, 30] = reference[40, 10] = 1
    >>> map_error(reference, reference), map_error(0 * reference, reference) > 0.5
    (0.0, True)
    """
    difference = np.subtract(heatmap, reference, dtype=np.float64)
    return float(np.linalg.norm(difference)) / max(float(np.linalg.norm(reference)), _ONE_HEAD)


def disagreement(result: CountResult, reference: CountResult, limits: Agreement = ANY_TYPE) -> str | None:
    """What is wrong with ``result``, or None if it agrees with ``reference``."""
    if not np.isfinite(result.heatmap).all():
        return "its heat map has numbers that are not finite"
    if abs(result.count - reference.count) > max(1.0, limits.count * reference.count):
        return f"it counts {result.count} people, the reference {reference.count}"
    moved = map_error(result.heatmap, reference.heatmap)
    if moved > limits.heatmap:
        return f"its heat map differs by {moved:.2g} from the reference's, more than {limits.heatmap:.2g}"
    return None
