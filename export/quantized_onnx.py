"""A float32 graph -> the same graph with int8 convolutions, written with QuantizeLinear and DequantizeLinear.

Weights are int8, symmetric, with one scale per output channel; what a convolution reads is int8, symmetric, with one
scale per tensor and zero point 0, which is what TensorRT takes and costs OpenVINO nothing (it shifts to uint8 inside
its convolutions). Biases are float32, corrected for the mean of what rounding loses. The rest is as it was.

A quantised tensor is read as such by all but float convolutions: the skip of a residual block then stays int8, and
the runtimes add it inside the convolution. Read in float32, it would be written and read once more, in four bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

# Symmetric: -128 is not used, so that negating loses nothing.
LEVELS = 127
_ZERO = "int8.zero"


@dataclass(frozen=True)
class QuantizedWeight:
    """A weight as ``values * scales``, one scale per output channel.

    Attributes:
        values: int8 [O, I, h, w] in -127 .. 127.
        scales: float32 [O], above 0.
    """

    values: np.ndarray
    scales: np.ndarray


def quantize_weight(weight: np.ndarray) -> QuantizedWeight:
    """Round the weight of a convolution, [O, I, h, w] in any float type, to int8 steps of each output channel's own."""
    largest = np.abs(weight.astype(np.float32)).reshape(len(weight), -1).max(axis=1)
    # A channel of zeros has no size of its own; any step gives zeros again.
    scales = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    steps = np.rint(weight.astype(np.float32) / scales[:, None, None, None])
    return QuantizedWeight(np.clip(steps, -LEVELS, LEVELS).astype(np.int8), scales)


def convolutions(model: onnx.ModelProto) -> dict[str, tuple[str, str, str]]:
    """By name of each convolution: what it reads, and its weight and its bias in the weights file."""
    stored = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    found = (x for x in model.graph.node if x.op_type == "Conv")
    return {x.name: (x.input[0], stored[x.input[1]], stored[x.input[2]]) for x in found}


def round_to_int8(values: np.ndarray, limit: float) -> np.ndarray:
    """What is left of float32 values of any shape in int8 of range ``limit``: a multiple of ``limit / 127``."""
    step = np.float32(limit / LEVELS)
    return np.clip(np.rint(values / step), -LEVELS - 1, LEVELS) * step


def quantized_graph(
    model: onnx.ModelProto,
    names: Collection[str],
    ranges: Mapping[str, float],
    weights: Mapping[str, QuantizedWeight],
    biases: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    """The graph with the convolutions called ``names`` in int8; inputs and outputs are as before.

    Args:
        model: whole graph or segment, float32, weights as float16 data that a Cast widens.
        names: of convolutions; those of them that are not in this graph are ignored.
        ranges: largest magnitude to represent of every tensor that these convolutions read.
        weights: of these convolutions, by their names in the weights file; they become initialisers
            ``<name>.int8`` and ``<name>.scale``.
        biases: float32 [O] of these convolutions, by their own names.
    """
    return _Quantization(model, names, ranges, weights, biases).model()


class _Quantization:
    """The nodes of one quantised graph, made in order."""

    def __init__(
        self,
        model: onnx.ModelProto,
        names: Collection[str],
        ranges: Mapping[str, float],
        weights: Mapping[str, QuantizedWeight],
        biases: Mapping[str, np.ndarray],
    ):
        self._source, self._weights, self._biases = model, weights, biases
        found = convolutions(model)
        self._read = {name: tensors for name, tensors in found.items() if name in names}
        self._scales = {x: np.float32(ranges[x] / LEVELS) for x, _, _ in self._read.values()}
        self._added: dict[str, TensorProto] = {}
        self._nodes: list[NodeProto] = []

    def model(self) -> onnx.ModelProto:
        graph = self._source.graph
        for value in graph.input:
            self._quantize(value.name)
        for node in graph.node:
            self._place(node)
        used = {x for node in self._nodes for x in node.input} | {x.name for x in graph.output}
        # The float weights of int8 convolutions, unless another convolution shares them.
        self._nodes = [node for node in self._nodes if used & set(node.output)]
        used = {x for node in self._nodes for x in node.input}
        kept = [x for x in graph.initializer if x.name in used]
        quantized = helper.make_graph(
            self._nodes, graph.name, graph.input, graph.output, initializer=[*kept, *self._added.values()]
        )
        opsets = list(self._source.opset_import)
        model = helper.make_model(
            quantized, producer_name="crowd", opset_imports=opsets, functions=self._source.functions
        )
        model.ir_version = self._source.ir_version
        return model

    def _place(self, node: NodeProto) -> None:
        placed = NodeProto()
        placed.CopyFrom(node)
        if node.name in self._read:
            placed.input[1] = self._weight(self._read[node.name][1])
            placed.input[2] = f"{node.name}.bias"
            self._add(numpy_helper.from_array(self._biases[node.name], placed.input[2]))
        if node.op_type != "Conv" or node.name in self._read:
            placed.input[:] = [_restored(x) if x in self._scales else x for x in placed.input]
        self._nodes.append(placed)
        for name in node.output:
            self._quantize(name)

    def _quantize(self, tensor: str) -> None:
        """Append what rounds ``tensor`` to int8 and restores it, if a convolution reads it so."""
        if tensor not in self._scales:
            return
        scale, steps = f"{tensor}.scale", f"{tensor}.int8"
        self._add(numpy_helper.from_array(np.asarray(self._scales[tensor]), scale))
        self._add(helper.make_tensor(_ZERO, TensorProto.INT8, [], [0]))
        self._nodes += [
            helper.make_node("QuantizeLinear", [tensor, scale, _ZERO], [steps], f"{tensor}.quantize"),
            helper.make_node("DequantizeLinear", [steps, scale, _ZERO], [_restored(tensor)], f"{tensor}.dequantize"),
        ]

    def _weight(self, name: str) -> str:
        """Restore the int8 weight called ``name``, once; returns the name of the result."""
        steps, scale, restored = f"{name}.int8", f"{name}.scale", _restored(name)
        if steps not in self._added:
            weight = self._weights[name]
            self._add(numpy_helper.from_array(weight.values, steps))
            self._add(numpy_helper.from_array(weight.scales, scale))
            node = helper.make_node("DequantizeLinear", [steps, scale], [restored], f"{name}.dequantize", axis=0)
            self._nodes.append(node)
        return restored

    def _add(self, tensor: TensorProto) -> None:
        self._added[tensor.name] = tensor


def _restored(tensor: str) -> str:
    return f"{tensor}.restored"
