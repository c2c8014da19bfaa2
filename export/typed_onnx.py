"""A float32 segment -> the same segment in float16 or bfloat16, for runtimes that take every type from the graph.

A reduced type carries what a convolution reads and writes. These stay float32, as in the PyTorch model:

- what is made of the time and of constants alone: the embedding of t, its small matrix products, and the
  scale of the attention logits. It costs nothing, and sine and logarithm need the digits;
- what turns the last convolution into a float32 output: softplus, and the scaling of the head map; and the mean
  features, which the signature, and from it the likeness, is made of.

Both are rounded, or widened, once: where they meet the reduced type.

The size of the map, which scales the logits, is counted on the device: read from the shape, it would be copied from
the host at every run, and a captured CUDA graph would read that host memory again at every replay.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, TensorProto, helper

# Inputs and outputs of the programs that are float32 in every type; what else enters or leaves a segment is reduced.
FLOAT32_VALUES = frozenset({"t", "rate", "signature", "x_0"})
_TYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
}
REDUCED_TYPES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
_ONE_AXIS = "one_axis"
# What may run in float32 behind the last convolution: on few values, or fused into its end without a pass over memory.
_TAIL_OPERATORS = frozenset({
    "Add", "Sub", "Mul", "Relu", "Sigmoid", "Softplus", "Greater", "Where", "Split", "Softmax", "ReduceSum", "Resize",
    "ReduceMean", "Gemm",
})  # fmt: skip
# Operators whose later float inputs are settings, not data.
_DATA_INPUTS = {"Resize": 1}


def typed_name(graph: str, compute_type: str) -> str:
    """File of the segment in file ``graph`` in another type.

    >>> typed_name("encoder.0.onnx", "float16")
    'encoder.0.float16.onnx'
    """
    return f"{graph.removesuffix('.onnx')}.{compute_type}.onnx"


def typed_segment(segment: onnx.ModelProto, compute_type: str) -> onnx.ModelProto:
    """The segment in ``compute_type``, "float16" or "bfloat16", with the same names of inputs and outputs.

    Args:
        segment: of :func:`engine.export.partition.partition`: float32, weights as float16 data that a Cast
            widens, a type for every tensor.
        compute_type: of the inputs and outputs too, but for :data:`FLOAT32_VALUES`.

    Weights are the same float16 data; a Cast follows where the type differs.
    """
    return _Typing(segment, REDUCED_TYPES[compute_type]).model()


class _Typing:
    """The typed nodes of one segment, made in order, with Casts where a reader needs another type."""

    def __init__(self, segment: onnx.ModelProto, reduced: int):
        self._segment, self._reduced = segment, reduced
        graph = segment.graph
        values = (*graph.input, *graph.output, *graph.value_info)
        self._floats = {x.name for x in values if x.type.tensor_type.elem_type == TensorProto.FLOAT}
        constants = {x.name: x.data_type for x in graph.initializer if x.data_type in _TYPE_NAMES}
        # Float32 name of a weight -> its float16 data.
        self._weights = {x.output[0]: x.input[0] for x in graph.node if x.op_type == "Cast" and x.input[0] in constants}
        # The type in which each float tensor is made; under its own name it has its public type.
        self._made = {**constants, **{x.name: self._io_type(x.name) for x in graph.input}}
        self._public = dict(self._made)
        self._outputs = {x.name: self._io_type(x.name) for x in graph.output}
        self._tail = self._float32_tail()
        self._cast: set[str] = set()
        self._nodes: list[NodeProto] = []
        self._settings: list[TensorProto] = []

    def model(self) -> onnx.ModelProto:
        graph = self._segment.graph
        for node in graph.node:
            if node.output[0] not in self._weights:
                self._place(node)
        typed = helper.make_graph(
            self._nodes,
            graph.name,
            [self._retyped(x) for x in graph.input],
            [self._retyped(x) for x in graph.output],
            initializer=[*graph.initializer, *self._settings],
        )
        model = helper.make_model(typed, producer_name="crowd", opset_imports=list(self._segment.opset_import))
        model.ir_version = self._segment.ir_version
        return model

    def _io_type(self, name: str) -> int:
        return TensorProto.FLOAT if name in FLOAT32_VALUES else self._reduced

    def _retyped(self, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        copy.type.tensor_type.elem_type = self._io_type(value.name)
        return copy

    def _float32_tail(self) -> set[str]:
        """What such nodes make between the last convolution and a float32 output."""
        producers = {output: node for node in self._segment.graph.node for output in node.output}
        tail: set[str] = set()
        ends = [name for name, element_type in self._outputs.items() if element_type == TensorProto.FLOAT]
        while ends:
            name = ends.pop()
            if name in producers and producers[name].op_type in _TAIL_OPERATORS:
                tail.add(name)
                # What a mean over all places is of is a whole map, and stays reduced.
                ends.extend(producers[name].input if producers[name].op_type != "ReduceMean" else ())
        return tail

    def _place(self, node: NodeProto) -> None:
        """Append ``node`` in its type, after the Casts that its inputs need."""
        if node.op_type == "Cast" and node.input[0] not in self._made:
            self._count(node.input[0], self._write(node.output[0], TensorProto.FLOAT))
            return
        data = node.input[: _DATA_INPUTS.get(node.op_type, len(node.input))]
        floats = {x for x in data if self._weights.get(x, x) in self._made}
        varying = {self._made[x] for x in floats if x in self._made}
        reduced = self._reduced in varying and node.output[0] not in self._tail
        element_type = self._reduced if reduced else TensorProto.FLOAT
        typed = NodeProto()
        typed.CopyFrom(node)
        # Shape reads a tensor of any type.
        if node.op_type != "Shape":
            typed.input[:] = [self._read(x, element_type) if x in floats else x for x in node.input]
        typed.output[:] = [self._write(x, element_type) if x in self._floats else x for x in node.output]
        self._nodes.append(typed)
        for name in self._outputs.keys() & set(node.output):
            self._read(name, self._outputs[name])

    def _count(self, size: str, output: str) -> None:
        """The scalar integer ``size`` as float32, made as the sum of so many ones."""
        if not self._settings:
            self._settings.append(helper.make_tensor(_ONE_AXIS, TensorProto.INT64, [1], [1]))
        one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        length, ones = f"{output}.length", f"{output}.ones"
        self._nodes += [
            helper.make_node("Reshape", [size, _ONE_AXIS], [length], length),
            helper.make_node("ConstantOfShape", [length], [ones], ones, value=one),
            helper.make_node("ReduceSum", [ones], [output], output, keepdims=0),
        ]

    def _write(self, name: str, element_type: int) -> str:
        self._made[name] = element_type
        self._public[name] = self._outputs.get(name, element_type)
        return self._name(name, element_type)

    def _read(self, name: str, element_type: int) -> str:
        """Name of ``name`` in ``element_type``; the first reader of another type than the made one casts."""
        source = self._weights.get(name, name)
        made, wanted = (self._name(source, x) for x in (self._made[source], element_type))
        if wanted != made and wanted not in self._cast:
            self._cast.add(wanted)
            self._nodes.append(helper.make_node("Cast", [made], [wanted], f"{wanted}.cast", to=element_type))
        return wanted

    def _name(self, name: str, element_type: int) -> str:
        return name if element_type == self._public[name] else f"{name}.{_TYPE_NAMES[element_type]}"
