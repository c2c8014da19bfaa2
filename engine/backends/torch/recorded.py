"""A whole inference in PyTorch as one CUDA graph."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.backends.torch.network import TorchNetwork
from engine.diffusion.latent import TileMaps, head_maps, latent_shape
from engine.diffusion.sampler import Latents, Request, denoise, initial_noise
from engine.system.recordings import RECORDING

# PyTorch's own advice: lazy initialisations are over after a few eager passes.
_WARM_UPS = 3


class RecordedInference:
    """Encoder and sampler for one padded size, number of steps and of samples; used by one thread at a time.

    Args:
        network: whose methods are recorded, on its device.
        height, width: padded, in pixels.
        steps, samples: of the sampler.
    """

    def __init__(self, network: TorchNetwork, height: int, width: int, steps: int, samples: int):
        self._network, self._steps, self._samples = network, steps, samples
        device = network.device
        self._latent_shape = latent_shape(height, width, network.model)
        self._image = torch.zeros((1, 3, height, width), device=device)
        self._noise = torch.zeros((samples, *self._latent_shape), device=device)
        with torch.inference_mode(), torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self._compute()
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            # PyTorch's own stream is of the device that recorded first. Other threads may allocate meanwhile.
            with RECORDING, torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
                self._outputs = self._compute()

    def __call__(self, pixels: np.ndarray, request: Request) -> TileMaps:
        """Replay the graph for a normalised picture [1, 3, H, W]."""
        noise = np.stack([initial_noise(request.seed, self._latent_shape, x) for x in range(self._samples)])
        with torch.inference_mode():
            self._image.copy_(torch.from_numpy(pixels))
            self._noise.copy_(torch.from_numpy(noise))
            self._graph.replay()
            estimates, changes, rate, signature = (x.float().cpu().numpy() for x in self._outputs)
        maps = head_maps(list(estimates), list(changes), self._network.model)
        return TileMaps(*maps, rate[0, 0], signature[0])

    def _compute(self) -> tuple[Tensor, ...]:
        features, rate, signature = self._network.encode(self._image)
        estimates, changes = torch.zeros_like(self._noise), torch.zeros_like(self._noise)
        for sample in range(self._samples):
            latents = Latents(self._noise[sample].clone(), estimates[sample], changes[sample])
            denoise(self._network, features, latents, self._steps, self._network.model.map_scale)
        return estimates, changes, rate, signature
