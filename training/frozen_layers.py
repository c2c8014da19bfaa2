"""Layers that a run does not train, computed by OpenVINO on a CPU."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from engine.model.layers import fold_norms
from engine.model.precision import has_bfloat16
from engine.system.telemetry import no_telemetry

with no_telemetry():
    import openvino as ov


class FrozenLayers:
    """What ``layers`` compute, without gradients, their norms with the statistics that they have.

    The layers of a trunk before stride 4 take a fifth of PyTorch's time so (Zen 4, float32, one thread: 43 ms in place
    of 190 for 8 crops of 256 pixels). Like all of a step, they run in bfloat16 where the CPU has it. A later change
    of their weights is not seen.

    Args:
        layers: one tensor [B, C, H, W] in, one out; on the CPU.
    """

    def __init__(self, layers: nn.Module):
        self._layers = fold_norms(copy.deepcopy(layers)).requires_grad_(False)
        self._requests: dict[tuple[int, ...], ov.InferRequest] = {}

    @torch.compiler.disable
    def __call__(self, x: Tensor) -> Tensor:
        """The layers' output, float32 in memory of its own."""
        shape = tuple(x.shape)
        if shape not in self._requests:
            self._requests[shape] = self._compile(shape)
        request = self._requests[shape]
        # OpenVINO does not keep the array alive: it must be here until the request has ended.
        array = x.detach().contiguous().numpy()
        request.set_input_tensor(ov.Tensor(array, shared_memory=True))
        request.start_async()
        request.wait()
        output = torch.from_numpy(request.get_output_tensor().data.copy())
        return output.contiguous(memory_format=torch.channels_last)

    def _compile(self, shape: tuple[int, ...]) -> ov.InferRequest:
        with warnings.catch_warnings(), no_telemetry():
            # OpenVINO traces the layers in a way that PyTorch warns of.
            warnings.simplefilter("ignore")
            # Autocast, which the caller may be in, would be traced as well.
            with torch.autocast("cpu", enabled=False):
                model = ov.convert_model(self._layers, example_input=torch.zeros(shape), input=list(shape))
        precision = ov.Type.bf16 if has_bfloat16() else ov.Type.f32
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        return ov.Core().compile_model(model, "CPU", options).create_infer_request()
