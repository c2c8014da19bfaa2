"""What a counter needs of a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from engine.config import ModelConfig
from engine.diffusion.latent import TileMaps
from engine.diffusion.sampler import Network, Request
from engine.image.load import load_image
from engine.image.tiles import Picture
from engine.system.stopwatch import Stopwatch

# CUDA graphs of more decoder calls than this would be large and slow to make, and gain little: none are recorded.
MAX_RECORDED_CALLS = 128
# A tile of a picture, what to compute of it, and the clock of its picture.
Work = tuple[Any, Request, Stopwatch]


class Backend(ABC):
    """Runs one bundle on one device. All methods may be called from several threads at once.

    Attributes:
        name: as in the registry.
        device: what it runs on, for the user.
        compute_type: the type it computes in, after "default" was resolved.
        model: shape of the network.
        starts_warm: it heeds ``Request.start``.
        parallel: pictures that it computes at once, if so many threads ask it to.
    """

    starts_warm: bool = True
    parallel: int = 1
    name: str
    device: str
    compute_type: str
    model: ModelConfig

    @abstractmethod
    def load(self, img: Any, color: str, cuda_stream: Any, read: Callable[..., np.ndarray] = load_image) -> Picture:
        """A picture whose tiles :meth:`infer` takes.

        Args:
            img: what :meth:`engine.CrowdCounter.count` takes, or what :meth:`snapshot` gave.
            color: order of the channels of an array, "rgb" or "bgr".
            cuda_stream: that the caller writes an array on the GPU in; None if there is none.
            read: :func:`engine.image.load.load_image`, with options of its own.

        Raises:
            ImageError: it is no picture, or lies on a GPU and the backend does not run there.
            ConfigError: ``color`` is not valid, or ``cuda_stream`` goes with nothing.
        """

    @abstractmethod
    def snapshot(self, img: Any, *, color: str, **options: Any) -> Any:
        """RGB pixels for :meth:`load` that share no memory with ``img``, which may be overwritten once this returns.

        To be called in the thread that made ``img``, as libraries know by its thread what is queued for it on a GPU.
        ``options`` are those of :func:`engine.image.load.load_image`.
        """

    @abstractmethod
    def infer(self, tile: Any, request: Request, clock: Stopwatch) -> TileMaps:
        """What :func:`engine.diffusion.sampler.infer` gives for one tile, in memory of its own.

        Args:
            tile: part of what :meth:`load` gave.
            clock: gets a lap for each stage.
        """

    @abstractmethod
    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        """The maps of each tile, in order; the next one may be taken from ``work`` before a result is yielded."""

    @abstractmethod
    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """The kernel ``find_peaks`` on a host map [h, w]: points [N, 2] in cells and scores [N]."""

    @abstractmethod
    def network(self) -> AbstractContextManager[Network]:
        """The network, step by step, for comparing it with the reference; for one thread, until the block ends."""

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds; it cannot be used afterwards."""
