"""A float32 graph -> the same graph with int8 convolutions, written with QuantizeLinear and DequantizeLinear.

Weights are int8, symmetric, with one scale per output channel. What a convolution reads has one scale per tensor and
zero point 0: uint8 where a ReLU or ReLU6 made it, so that all 256 steps are used, and OpenVINO, whose convolutions read
uint8, has no zero point to subtract; else int8. Biases are float32, corrected for the mean of what rounding loses. The
rest is as it was.

A quantised tensor is read as such by all but float convolutions: the skip of a residual block then stays int8, and
the runtimes add it inside the convolution. Read in float32, it would be written and read once more, in four bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engine.bundle.int8_weights import largest_pairs

# Symmetric: -128 is not used, so that negating loses nothing.
LEVELS = 127
UNSIGNED_LEVELS = 255
_SIGNED_ZERO, _UNSIGNED_ZERO = "int8.zero", "uint8.zero"


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
    """Round the weight of a convolution, [O, I, h, w] in any float type, to int8 steps of each output channel's own.

    The steps are so large that sums of two neighbouring weights fit, too, as :mod:`engine.bundle.int8_weights` asks:
    usually a fifth larger than the weights alone would need.
    """
    largest = np.abs(weight.astype(np.float32)).reshape(len(weight), -1).max(axis=1)
    # At most 127; and rounding can add a half to each of the two.
    largest = np.maximum(largest, largest_pairs(weight))
    # A channel of zeros has no size of its own; any step gives zeros again.
    scales = np.where(largest > 0, largest / LEVELS, 1).astype(np.float32)
    steps = np.rint(weight.astype(np.float32) / scales[:, None, None, None])
    return QuantizedWeight(np.clip(steps, -LEVELS, LEVELS).astype(np.int8), scales)


@dataclass(frozen=True)
class Grid:
    """The values that 8 bits represent of a tensor: multiples of one step, up to a limit.

    Attributes:
        limit: largest magnitude, above 0.
        is_unsigned: whether no value is below 0; twice as many steps are then left for those above.
    """

    limit: float
    is_unsigned: bool = False

    @property
    def step(self) -> np.float32:
        """Distance of neighbours."""
        return np.float32(self.limit / (UNSIGNED_LEVELS if self.is_unsigned else LEVELS))

    def round(self, values: np.ndarray) -> np.ndarray:
        """The nearest of them to float32 values of any shape."""
        low, high = (0, UNSIGNED_LEVELS) if self.is_unsigned else (-LEVELS - 1, LEVELS)
        return np.clip(np.rint(values / self.step), low, high) * self.step


def convolutions(model: onnx.ModelProto) -> dict[str, tuple[str, str, str]]:
    """By name of each convolution: what it reads, and its weight and its bias in the weights file."""
    stored = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    found = (x for x in model.graph.node if x.op_type == "Conv")
    return {x.name: (x.input[0], stored[x.input[1]], stored[x.input[2]]) for x in found}


def never_negative(model: onnx.ModelProto) -> set[str]:
    """The tensors of a graph that a ReLU, or a Clip from 0 or more, has made."""
    constants = {x.name: numpy_helper.to_array(x) for x in model.graph.initializer}
    found = set()
    for node in model.graph.node:
        least = constants.get(node.input[1]) if node.op_type == "Clip" and len(node.input) > 1 else None
        if node.op_type == "Relu" or (least is not None and least >= 0):
            found.update(node.output)
    return found


def quantized_graph(
    model: onnx.ModelProto,
    names: Collection[str],
    grids: Mapping[str, Grid],
    weights: Mapping[str, QuantizedWeight],
    biases: Mapping[str, np.ndarray],
) -> onnx.ModelProto:
    """The graph with the convolutions called ``names`` in int8; inputs and outputs are as before.

    Args:
        model: whole graph or segment, float32, weights as float16 data that a Cast widens.
        names: of convolutions; those of them that are not in this graph are ignored.
        grids: of every tensor that these convolutions read.
        weights: of these convolutions, by their names in the weights file; they become initialisers
            ``<name>.int8`` and ``<name>.scale``.
        biases: float32 [O] of these convolutions, by their own names.
    """
    return _Quantization(model, names, grids, weights, biases).model()


class _Quantization:
    """The nodes of one quantised graph, made in order."""

    def __init__(
        self,
        model: onnx.ModelProto,
        names: Collection[str],
        grids: Mapping[str, Grid],
        weights: Mapping[str, QuantizedWeight],
        biases: Mapping[str, np.ndarray],
    ):
        self._source, self._weights, self._biases = model, weights, biases
        found = convolutions(model)
        self._read = {name: tensors for name, tensors in found.items() if name in names}
        self._grids = {x: grids[x] for x, _, _ in self._read.values()}
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
            placed.input[:] = [_restored(x) if x in self._grids else x for x in placed.input]
        self._nodes.append(placed)
        for name in node.output:
            self._quantize(name)

    def _quantize(self, tensor: str) -> None:
        """Append what rounds ``tensor`` to int8 and restores it, if a convolution reads it so."""
        if tensor not in self._grids:
            return
        grid, scale, steps = self._grids[tensor], f"{tensor}.scale", f"{tensor}.int8"
        zero = _UNSIGNED_ZERO if grid.is_unsigned else _SIGNED_ZERO
        self._add(numpy_helper.from_array(np.asarray(grid.step), scale))
        self._add(helper.make_tensor(zero, TensorProto.UINT8 if grid.is_unsigned else TensorProto.INT8, [], [0]))
        self._nodes += [
            helper.make_node("QuantizeLinear", [tensor, scale, zero], [steps], f"{tensor}.quantize"),
            helper.make_node("DequantizeLinear", [steps, scale, zero], [_restored(tensor)], f"{tensor}.dequantize"),
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
