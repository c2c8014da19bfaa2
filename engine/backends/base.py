"""The interface of a backend, and the registry that finds them by name."""

from __future__ import annotations

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from engine.backends.cuda.device_arrays import is_device_array
from engine.bundle.bundle import Bundle
from engine.config import FEATURE_STRIDE, CounterConfig, ModelConfig
from engine.diffusion.latent import TileMaps, fold_map, head_maps
from engine.diffusion.sampler import Latents, add_noise, denoise, initial_noise
from engine.errors import BackendError, ConfigError, EngineError, ImageError
from engine.image.load import load_image
from engine.image.tiles import padded_shape, to_input
from engine.system.processes import COUNTING
from engine.system.stopwatch import Stopwatch

_log = logging.getLogger("engine")

# Name -> (module, class). Modules are imported on first use: each needs its own runtime.
_REGISTRY = {
    "openvino": ("engine.backends.openvino.backend", "OpenVINOBackend"),
    "tensorrt": ("engine.backends.tensorrt.backend", "TensorRTBackend"),
    "torch": ("engine.backends.torch.backend", "TorchBackend"),
}
# What "auto" may run on a GPU; the others compute on the CPU alone.
_GPU_TYPES = ("default", "float16", "bfloat16")
# CUDA graphs of more decoder calls than this would be large and slow to make, and gain little: none are recorded.
MAX_RECORDED_CALLS = 128


@dataclass(frozen=True)
class Start:
    """A map to start the denoising from, in place of pure noise.

    Attributes:
        heatmap: float32 [h, w] in [0, 1], where the heads may be; beyond its ends there are none.
        t: how much noise it gets: 1 is noise alone.
    """

    heatmap: np.ndarray
    t: float


@dataclass(frozen=True)
class Request:
    """What to compute of a picture.

    Attributes:
        steps: of the sampler.
        samples: of the noise.
        seed: of the noise.
        threshold: of the heat map's peaks; None if nobody needs them.
        start: of the denoising; only for backends that say ``starts_warm``.
    """

    steps: int
    samples: int
    seed: int
    threshold: float | None
    start: Start | None = None

    def initial_latent(self, shape: tuple[int, ...], sample: int, model: ModelConfig) -> tuple[np.ndarray, float]:
        """The latent that the denoising of a sample starts from, float32 of ``shape``, and its time."""
        noise = initial_noise(self.seed, shape, sample)
        if self.start is None:
            return noise, 1.0
        return add_noise(fold_map(self.start.heatmap, shape, model), noise, self.start.t), self.start.t


# A tile of a picture, what to compute of it, and the clock of its picture.
Work = tuple[Any, Request, Stopwatch]


class Backend(ABC):
    """Runs one bundle on one device.

    Arrays between its methods are the backend's own; ``upload`` and ``download`` cross over. All
    methods may be called from several threads at once; what ``encode`` and ``decode`` return stays
    valid until the same thread calls them again.

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
    def upload(self, array: np.ndarray) -> Any:
        """A writable float32 array of the backend with the contents of ``array``."""

    @abstractmethod
    def download(self, array: Any) -> np.ndarray:
        """The contents as a NumPy array of the host; may share memory."""

    def prepare(self, image: Any) -> Any:
        """Picture uint8 [H, W, 3] -> the normalised, padded image that :meth:`encode` takes."""
        return self.upload(to_input(image, self.model))

    @abstractmethod
    def encode(self, image: Any) -> tuple[Any, Any]:
        """Normalised image [1, 3, H, W] -> features [1, F, H/8, W/8], density [1, 1, H/8, W/8]."""

    @abstractmethod
    def decode(self, features: Any, x_t: Any, t: float) -> Any:
        """Features, noisy latent [1, L, H/8, W/8] and time -> estimate x_0 of the clean latent."""

    @abstractmethod
    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        """The kernel ``ddim_update``, in place in ``x_t``, ``estimate`` and ``change``."""

    @abstractmethod
    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """The kernel ``find_peaks`` on a host map [h, w]: points [N, 2] in cells and scores [N]."""

    def load(self, img: Any, color: str, stream: Any, read: Callable[..., np.ndarray] = load_image) -> Any:
        """A picture as :meth:`infer` takes it: uint8 [H, W, 3], RGB.

        Args:
            img: what :meth:`engine.CrowdCounter.count` takes.
            color: order of the channels of an array, "rgb" or "bgr".
            stream: that the caller writes an array on the GPU in; None if there is none.
            read: :func:`engine.image.load.load_image`, with options of its own.

        Raises:
            ImageError: it is no picture, or lies on a GPU and the backend does not run there.
            ConfigError: ``color`` is not valid, or ``stream`` goes with nothing.
        """
        if stream is not None:
            raise ConfigError(f"stream goes with a picture on the GPU of backend 'tensorrt', got backend {self.name!r}")
        # PyTorch copies its own to the host; the others' libraries ask their users to.
        if is_device_array(img) and not type(img).__module__.startswith("torch"):
            raise ImageError(
                f"<{type(img).__name__}> lies in CUDA memory, the counter runs on {self.device} with backend "
                f"{self.name!r}; make a CrowdCounter(device='cuda', backend='tensorrt'), or copy it to the host"
            )
        return read(img, color=color)

    def take(self, img: Any, *, color: str, **options: Any) -> Any:
        """A picture for :meth:`load` that shares no memory with ``img``: that may be overwritten once this returns.

        To be called in the thread that made ``img``, as libraries know by its thread what is queued for it on a GPU.
        ``options`` are those of :func:`engine.image.load.load_image`.
        """
        return self.load(img, color, None, partial(load_image, **options))

    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        """The maps of each tile, in order; the next one may be taken from ``work`` before a result is yielded."""
        for image, request, clock in work:
            yield self.infer(image, request, clock)

    def infer(self, image: Any, request: Request, clock: Stopwatch) -> TileMaps:
        """Run the whole network on one tile: encode once, denoise ``request.samples`` times.

        Args:
            image: what :meth:`load` gave, or a part of it.
            clock: gets the laps "preprocess", "encode" and "denoise".
        """
        pixels = self.prepare(image)
        clock.lap("preprocess")
        features, density = self.encode(pixels)
        clock.lap("encode")
        height, width = (side // FEATURE_STRIDE for side in padded_shape(*image.shape[:2])[2:])
        shape = (1, self.model.latent_channels, height, width)
        estimates, changes = [], []
        for sample in range(request.samples):
            (x_t, t), still = request.initial_latent(shape, sample, self.model), np.zeros(shape, np.float32)
            latents = Latents(self.upload(x_t), self.upload(still), self.upload(still))
            denoise(self, features, latents, request.steps, self.model.map_scale, t)
            estimates.append(self.download(latents.estimate))
            changes.append(self.download(latents.change))
        maps = TileMaps(*head_maps(estimates, changes, self.model), self.download(density)[0, 0])
        clock.lap("denoise")
        return maps

    @abstractmethod
    def close(self) -> None:
        """Free what the backend holds; it cannot be used afterwards."""


def create_backend(bundle: Bundle, config: CounterConfig) -> Backend:
    """The backend that ``config`` asks for; "auto" picks one for the device and logs it.

    Raises:
        BackendError: it is not there, or cannot run on that device.

    Where everything was left to "auto" and TensorRT does not start, it is the CPU's, and the log says why.
    """
    COUNTING.check()
    name = resolve_backend(bundle, config)
    if "auto" in (config.backend, config.device):
        _log.info("device %r and backend %r resolved to backend %r", config.device, config.backend, name)
    try:
        return _make(name, bundle, config)
    except BackendError as error:
        # What was looked up beforehand says too little: TensorRT may be newer than the driver, or refuse its engines.
        if name != "tensorrt" or (config.backend, config.device) != ("auto", "auto"):
            raise
        _log.warning("no GPU is used: %s", error)
        return _make("openvino", bundle, config)


def _make(name: str, bundle: Bundle, config: CounterConfig) -> Backend:
    module, attribute = _REGISTRY[name]
    backend: Backend = getattr(importlib.import_module(module), attribute)(bundle, config)
    return backend


def resolve_backend(bundle: Bundle, config: CounterConfig) -> str:
    """Name of the backend that ``config`` leads to, without loading it."""
    on_gpu = config.device.startswith("cuda")
    if config.backend == "openvino" and on_gpu:
        raise BackendError(f"backend 'openvino' runs on the CPU, got device={config.device!r}; use device='cpu'")
    if config.backend == "tensorrt" and config.device == "cpu":
        raise BackendError("backend 'tensorrt' runs on a GPU, got device='cpu'; use device='cuda' or 'auto'")
    if config.backend != "auto":
        return config.backend
    if config.device == "auto":
        problem = why_no_gpu(bundle, config)
        if problem:
            _log.info("no GPU is used: %s", problem)
        return "openvino" if problem else "tensorrt"
    return "tensorrt" if on_gpu else "openvino"


def why_no_gpu(bundle: Bundle, config: CounterConfig) -> str | None:
    """Why backend "tensorrt" cannot run this bundle on the first GPU; None if it can, as far as is known beforehand."""
    if config.compute_type not in _GPU_TYPES:
        return f"compute_type {config.compute_type!r} is for the CPU"
    from engine.backends.tensorrt.requirements import check_requirements, resolve_type

    try:
        check_requirements(bundle, 0, resolve_type(config.compute_type))
    except EngineError as error:
        return str(error)
    return None
