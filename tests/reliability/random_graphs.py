"""Random graphs of the operators that a bundle may have, with inputs and attributes of which some are hostile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper
from reliability.small_bundle import convolution, model, value

FLOAT = TensorProto.FLOAT
INPUTS = [
    value("features", FLOAT, "batch", 2, "h8", "w8"),
    value("x_t", FLOAT, "batch", 1, "h8", "w8"),
    value("t", FLOAT, "batch"),
]
_NUMBERS = (0, 1, 2, 3, 4, 8, 9, 17, 1000, -1, -2, -4, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
_FLOATS = (0.0, 1.0, 2.0, -1.0, 1e9, 1e38, float("inf"), float("nan"), 0.5)
_NEAREST = {
    "antialias": 0, "coordinate_transformation_mode": "asymmetric", "cubic_coeff_a": -0.75, "exclude_outside": 0,
    "extrapolation_value": 0.0, "keep_aspect_ratio_policy": "stretch", "mode": "nearest", "nearest_mode": "floor",
}  # fmt: skip


class RandomGraph:
    """A graph of a few operators.

    Args:
        operator: that it has, beside those that others need.
        hostile: how likely an operator's inputs or attributes are changed.
    """

    def __init__(self, rng: np.random.Generator, operator: str, hostile: float):
        self._rng, self._hostile = rng, hostile
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        # Tensors by kind, for operators to read.
        self._maps, self._others = ["features", "x_t"], ["t"]
        for _ in range(int(rng.integers(0, 3))):
            self._add(_ANY_MAP[int(rng.integers(len(_ANY_MAP)))])
        self._add(operator)

    def file(self, outputs: list[Any]) -> bytes:
        """The ONNX file, with these outputs."""
        return model(self.nodes, INPUTS, outputs, self.tensors)

    def constant(self, array: np.ndarray) -> str:
        """The name of a new constant."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def any_map(self) -> str:
        return self._maps[int(self._rng.integers(len(self._maps)))]

    def coin(self) -> bool:
        return bool(self._rng.random() < 0.5)

    def _add(self, operator: str) -> None:
        node = _MAKERS[operator](self)
        if self._rng.random() < self._hostile:
            self._spoil(node)
        self.nodes.append(node)
        (self._maps if operator in _ANY_MAP else self._others).extend(node.output)

    def _spoil(self, node: NodeProto) -> None:
        """Change one input or one attribute."""
        if node.attribute and self._rng.random() < 0.6:
            attribute = node.attribute[int(self._rng.integers(len(node.attribute)))]
            changed = self._spoilt(helper.get_attribute_value(attribute))
            if changed is not None:
                attribute.CopyFrom(helper.make_attribute(attribute.name, changed))
            return
        at = int(self._rng.integers(len(node.input)))
        pool = [*self._maps, *self._others, self._random_constant(), self._random_constant(), ""]
        node.input[at] = pool[int(self._rng.integers(len(pool)))]

    def _spoilt(self, given: Any) -> Any:
        number = int(self._rng.choice(np.array(_NUMBERS)))
        if isinstance(given, list):
            at = int(self._rng.integers(len(given)))
            return [*given[:at], number, *given[at + 1 :]] if self._rng.random() < 0.8 else given[1:] or [number]
        if isinstance(given, int):
            return number
        if isinstance(given, float):
            return float(self._rng.choice(_FLOATS))
        return "cubic" if isinstance(given, bytes) else None

    def _random_constant(self) -> str:
        count = int(self._rng.integers(0, 5))
        if self._rng.random() < 0.6:
            return self.constant(self._rng.choice(np.array(_NUMBERS), count).astype(np.int64))
        shape = tuple(self._rng.integers(1, 4, count))
        kind = (np.float32, np.int8, np.bool_, np.float16)[int(self._rng.integers(4))]
        return self.constant(np.ones(shape, kind))


def _node(operator: str, *inputs: str, graph: RandomGraph, outputs: int = 1, **attributes: Any) -> NodeProto:
    place = len(graph.nodes)
    names = [f"n{place}.{number}" for number in range(outputs)]
    return helper.make_node(operator, inputs, names, f"n{place}", **attributes)


def _unary(operator: str) -> Callable[[RandomGraph], NodeProto]:
    return lambda graph: _node(operator, graph.any_map(), graph=graph)


def _binary(operator: str) -> Callable[[RandomGraph], NodeProto]:
    def make(graph: RandomGraph) -> NodeProto:
        name = graph.any_map()
        return _node(operator, name, name, graph=graph)

    return make


def _conv(graph: RandomGraph) -> NodeProto:
    graph.constant(np.ones((2, 2, 3, 3), np.float32))
    weight = graph.tensors[-1].name
    made = f"n{len(graph.nodes)}.0"
    node = convolution("features", made, "w", 3, pads=(1, 1, 1, 1))
    node.input[1:] = [weight, graph.constant(np.zeros(2, np.float32))]
    return node


def _resize(graph: RandomGraph) -> NodeProto:
    scales = graph.constant(np.array([1, 1, 2, 2], np.float32))
    return _node("Resize", graph.any_map(), "", scales, graph=graph, **_NEAREST)


def _split(graph: RandomGraph) -> NodeProto:
    if graph.coin():
        return _node("Split", "features", graph=graph, outputs=2, axis=1, num_outputs=2)
    return _node("Split", "features", graph.constant(np.array([1, 1], np.int64)), graph=graph, outputs=2, axis=1)


def _gemm(graph: RandomGraph) -> NodeProto:
    graph.nodes.append(_node("Unsqueeze", "t", graph.constant(np.array([1], np.int64)), graph=graph))
    weight, bias = graph.constant(np.ones((3, 1), np.float32)), graph.constant(np.ones(3, np.float32))
    rest = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    biases = [bias] if graph.coin() else []
    return _node("Gemm", graph.nodes[-1].output[0], weight, *biases, graph=graph, **rest)


def _pixels(graph: RandomGraph) -> str:
    """The sides of a map, one less than their sum, and that as a list of one."""
    graph.nodes.append(_node("Shape", graph.any_map(), graph=graph, start=2, end=4))
    graph.nodes.append(_node("ReduceSum", graph.nodes[-1].output[0], graph=graph, keepdims=0))
    one = graph.constant(np.array(1, np.int64))
    graph.nodes.append(_node("Sub", graph.nodes[-1].output[0], one, graph=graph))
    return str(graph.nodes[-1].output[0])


def _reshape(graph: RandomGraph) -> NodeProto:
    return _node("Reshape", _pixels(graph), graph.constant(np.array([1], np.int64)), graph=graph)


def _ones(graph: RandomGraph) -> NodeProto:
    graph.nodes.append(_reshape(graph))
    one = helper.make_tensor("one", FLOAT, [1], [1.0])
    return _node("ConstantOfShape", graph.nodes[-1].output[0], graph=graph, value=one)


def _reduce(graph: RandomGraph) -> NodeProto:
    if graph.coin():
        return _node("ReduceSum", graph.any_map(), graph.constant(np.array([1], np.int64)), graph=graph, keepdims=1)
    graph.nodes.append(_ones(graph))
    return _node("ReduceSum", graph.nodes[-1].output[0], graph=graph, keepdims=0)


def _mean(graph: RandomGraph) -> NodeProto:
    axes = graph.constant(np.array([2, 3], np.int64))
    return _node("ReduceMean", graph.any_map(), axes, graph=graph, keepdims=0, noop_with_empty_axes=0)


def _quantize(graph: RandomGraph) -> NodeProto:
    kind = np.int8 if graph.coin() else np.uint8
    scale, zero = graph.constant(np.array(0.1, np.float32)), graph.constant(np.array(0, kind))
    return _node("QuantizeLinear", graph.any_map(), scale, zero, graph=graph)


def _dequantize(graph: RandomGraph) -> NodeProto:
    graph.nodes.append(_quantize(graph))
    return _node("DequantizeLinear", graph.nodes[-1].output[0], *graph.nodes[-1].input[1:], graph=graph)


def _where(graph: RandomGraph) -> NodeProto:
    name = graph.any_map()
    graph.nodes.append(_node("Greater", name, name, graph=graph))
    return _node("Where", graph.nodes[-1].output[0], name, name, graph=graph)


def _clip(graph: RandomGraph) -> NodeProto:
    low, high = graph.constant(np.array(0, np.float32)), graph.constant(np.array(6, np.float32))
    return _node("Clip", graph.any_map(), low, high, graph=graph)


_MAKERS: Mapping[str, Callable[[RandomGraph], NodeProto]] = {
    **{name: _unary(name) for name in ("Relu", "Sigmoid", "Softplus", "Sin", "Cos", "Log")},
    **{name: _binary(name) for name in ("Add", "Sub", "Mul", "Greater")},
    "Cast": lambda graph: _node("Cast", graph.any_map(), graph=graph, to=TensorProto.FLOAT16),
    "Clip": _clip,
    "Concat": lambda graph: _node("Concat", graph.any_map(), graph.any_map(), graph=graph, axis=1),
    "ConstantOfShape": _ones,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Gemm": _gemm,
    "QuantizeLinear": _quantize,
    "ReduceMean": _mean,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda graph: _node("Shape", graph.any_map(), graph=graph, start=2, end=4),
    "Softmax": lambda graph: _node("Softmax", graph.any_map(), graph=graph, axis=1),
    "Split": _split,
    "Transpose": lambda graph: _node("Transpose", graph.any_map(), graph=graph, perm=[0, 2, 3, 1]),
    "Unsqueeze": lambda graph: _node("Unsqueeze", "t", graph.constant(np.array([1, 2], np.int64)), graph=graph),
    "Where": _where,
}
# Those that make maps of float32 with their channels first, which all others read.
_ANY_MAP = ("Relu", "Sigmoid", "Softplus", "Sin", "Cos", "Add", "Mul", "Conv", "Concat", "Clip", "Where")
OPERATORS = tuple(_MAKERS)
