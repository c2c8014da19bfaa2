"""Our model in other runtimes, as a user of its ONNX files or its PyTorch code would run it; the sampler is NumPy's."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import numpy as np

from engine import _core
from engine.backends.base import Backend, Work
from engine.bundle.bundle import Bundle, load_bundle
from engine.config import FEATURE_STRIDE
from engine.counter import CrowdCounter
from engine.diffusion.latent import TileMaps, head_maps
from engine.diffusion.sampler import Latents, Network, Request, denoise, infer, initial_noise
from engine.image.load import load_host_picture, load_image
from engine.image.tiles import HostPicture, to_input
from engine.system.stopwatch import Stopwatch


class WholeGraphs(ABC):
    """The graphs ``encoder.onnx`` and ``decoder.onnx`` of a bundle in some runtime: a Network on NumPy's arrays."""

    def __init__(self, bundle: Bundle):
        self.model = bundle.model

    def prepare(self, tile: np.ndarray) -> np.ndarray:
        return to_input(tile, self.model)

    def upload(self, array: np.ndarray) -> np.ndarray:
        return np.array(array, np.float32, order="C")

    def download(self, array: np.ndarray) -> np.ndarray:
        return array

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(self.run("encoder", {"image": image}))

    def decode(self, features: np.ndarray, x_t: np.ndarray, t: float) -> np.ndarray:
        times = np.full(len(x_t), t, np.float32)
        (x_0,) = self.run("decoder", {"features": features, "x_t": x_t, "t": times})
        return x_0

    @abstractmethod
    def run(self, program: str, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        """The outputs of one of the graphs."""

    def ddim_update(self, x_t: Any, x_0: Any, estimate: Any, change: Any, coefficients: tuple[float, ...]) -> None:
        alpha, sigma, alpha_next, sigma_next, limit, weight = (np.float32(x) for x in coefficients)
        new = np.clip(x_0, -limit, limit)
        x_t[...] = alpha_next * new + sigma_next * ((x_t - alpha * new) / max(sigma, np.float32(1e-8)))
        change += weight * np.abs(new - estimate)
        estimate[...] = new


class OnnxRuntimeGraphs(WholeGraphs):
    """ONNX Runtime's CPU provider."""

    def __init__(self, bundle: Bundle, threads: int):
        import onnxruntime

        super().__init__(bundle)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._sessions = {
            name: onnxruntime.InferenceSession(bundle.path / spec.graph, options, providers=["CPUExecutionProvider"])
            for name, spec in bundle.programs.items()
        }

    def run(self, program: str, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        return self._sessions[program].run(None, inputs)


class OpenVINOGraphs(WholeGraphs):
    """OpenVINO without our kernels: the attention is its function body, written into the graph."""

    def __init__(self, bundle: Bundle, compute_type: str, threads: int):
        import onnx
        import openvino as ov
        from onnx.inliner import inline_local_functions

        super().__init__(bundle)
        precision = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}[compute_type]
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        core = ov.Core()
        self._models = {}
        for name, spec in bundle.programs.items():
            graph = inline_local_functions(onnx.load(bundle.path / spec.graph))
            self._models[name] = core.compile_model(core.read_model(graph.SerializeToString()), "CPU", options)

    def run(self, program: str, inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        results = self._models[program](inputs, share_inputs=True)
        return [results[output] for output in self._models[program].outputs]


def torch_network(bundle: Bundle, compute_type: str, compile_network: bool = False) -> Network:
    """The reference backend's network.

    Args:
        compile_network: put both halves of the network through ``torch.compile``, for one shape each.
    """
    import torch

    from engine.backends.torch.network import TorchNetwork

    made = TorchNetwork(bundle, "cpu", compute_type)
    if compile_network:
        network = made._denoiser.network
        network.encoder = torch.compile(network.encoder, dynamic=False)
        network.decoder = torch.compile(network.decoder, dynamic=False)
    return made


class BatchBackend(Backend):
    """Any network on the host's memory as a backend that runs pictures counted together as one batch."""

    name, device, compute_type = "batch", "cpu", ""

    def __init__(self, network: Network):
        self.model, self._network = network.model, network

    def load(self, img: Any, color: str, cuda_stream: Any, read: Callable[..., np.ndarray] = load_image) -> HostPicture:
        return load_host_picture(img, color, cuda_stream, self.name, read)

    def snapshot(self, img: Any, *, color: str, **options: Any) -> np.ndarray:
        return self.load(img, color, None, functools.partial(load_image, **options)).pixels

    def infer(self, tile: np.ndarray, request: Request, clock: Stopwatch) -> TileMaps:
        return infer(self._network, tile, request, clock)

    def infer_all(self, work: Iterable[Work]) -> Generator[TileMaps, None, None]:
        yield from infer_as_batch(self._network, list(work))

    def find_peaks(self, heatmap: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        return _core.find_peaks(heatmap, threshold)

    def network(self) -> AbstractContextManager[Network]:
        return nullcontext(self._network)

    def close(self) -> None:
        """Nothing is held beside memory."""


def counter_on(make: Callable[[Bundle], Network]) -> CrowdCounter:
    """A counter with the shipped model in a runtime that the registry does not know."""
    with mock.patch("engine.counter.create_backend", lambda bundle, *_, **__: BatchBackend(make(bundle))):
        return CrowdCounter()


def infer_as_batch(network: Network, work: Sequence[Work]) -> list[TileMaps]:
    """What :func:`engine.diffusion.sampler.infer` computes, of tiles of one size in one batch, one sample each."""
    request, model = work[0][1], network.model
    assert request.samples == 1
    shapes = {image.shape for image, _, _ in work}
    if len(shapes) > 1:
        return [maps for one in work for maps in infer_as_batch(network, [one])]
    pixels = np.concatenate([to_input(image, model) for image, _, _ in work])  # [B, 3, H, W]
    for _, _, clock in work:
        clock.lap("preprocess")
    features, rate, signature = network.encode(network.upload(pixels))
    for _, _, clock in work:
        clock.lap("encode")
    latents = _start(network, request, len(work), pixels.shape)
    denoise(network, features, latents, request.steps, model.map_scale)
    results = (latents.estimate, latents.change, rate, signature)
    estimates, changes, rates, signatures = (network.download(x) for x in results)
    for _, _, clock in work:
        clock.lap("denoise")
    return [
        TileMaps(*head_maps([estimates[i : i + 1]], [changes[i : i + 1]], model), rates[i, 0], signatures[i])
        for i in range(len(work))
    ]


def _start(network: Network, request: Request, batch: int, shape: tuple[int, ...]) -> Latents:
    side = shape[2] // FEATURE_STRIDE, shape[3] // FEATURE_STRIDE
    # The same noise for each picture, as if it were counted alone.
    noise = np.repeat(initial_noise(request.seed, (1, network.model.latent_channels, *side), 0), batch, axis=0)
    return Latents(*(network.upload(x) for x in (noise, np.zeros_like(noise), np.zeros_like(noise))))


def others(threads: int) -> dict[str, Callable[[], CrowdCounter]]:
    """Counters of the same model in other runtimes, by label; raise ImportError where a runtime is missing.

    Args:
        threads: that each computes with.
    """
    return {
        "ONNX Runtime float32": lambda: counter_on(lambda bundle: OnnxRuntimeGraphs(bundle, threads)),
        "plain OpenVINO float32": lambda: counter_on(lambda bundle: OpenVINOGraphs(bundle, "float32", threads)),
        "plain OpenVINO bfloat16": lambda: counter_on(lambda bundle: OpenVINOGraphs(bundle, "bfloat16", threads)),
    }


def compiled(compute_type: str) -> CrowdCounter:
    """A counter whose network went through ``torch.compile``; it compiles at its first count of each size."""
    return counter_on(lambda bundle: torch_network(bundle, compute_type, compile_network=True))


def eager_batch(compute_type: str) -> CrowdCounter:
    """A counter in eager PyTorch that runs pictures counted together as one batch."""
    return counter_on(lambda bundle: torch_network(bundle, compute_type))


def default_steps() -> int:
    """Denoising steps of the shipped model."""
    return load_bundle("default").default_steps
