"""Cuts a graph at its attention nodes, so that any runtime runs the segments and a kernel runs between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from engine.bundle.bundle import KernelStage, SegmentStage, SplitStage, Stage
from engine.export.attention_function import KERNEL, OPSET


@dataclass(frozen=True)
class Partition:
    """Segments by file name, and the stages that chain them with the kernels into the whole graph."""

    graphs: dict[str, onnx.ModelProto]
    stages: tuple[Stage, ...]


def partition(model: onnx.ModelProto, name: str) -> Partition:
    """Cut ``model`` at every ``crowd::criss_cross_attention`` node.

    The level of a node is the largest number of attention nodes on a path to it. Nodes of one level
    form a segment, which needs only what earlier levels made; nodes that depend on constants alone
    (casts of weights) are copied into every segment that uses them. A Split that only feeds attention
    is left out of the segments: its parts are views, which a kernel takes without a copy.

    Args:
        model: whole graph, nodes in topological order, with types and shapes of its tensors.
        name: of the program; segments are called ``<name>.<level>.onnx``.
    """
    graph = _Graph(model)
    graphs: dict[str, onnx.ModelProto] = {}
    stages: list[Stage] = []
    for level in range(max(graph.levels.values()) + 1):
        nodes = [node for node in graph.compute if graph.level_of(node) == level]
        if nodes:
            file = f"{name}.{level}.onnx"
            segment = graph.segment(nodes, f"{name}.{level}")
            graphs[file] = segment
            stages.append(SegmentStage(file, _names(segment.graph.input), _names(segment.graph.output)))
        stages.extend(SplitStage(x.input[0], graph.split_sizes(x), tuple(x.output)) for x in graph.splits_at(level))
        stages.extend(KernelStage(KERNEL, tuple(x.input), tuple(x.output)) for x in graph.attention_after(level))
    return Partition(graphs, tuple(stages))


class _Graph:
    """A graph with its levels, and its nodes sorted into constants, attention, views and compute."""

    def __init__(self, model: onnx.ModelProto):
        self.graph = model.graph
        self.ir_version = model.ir_version
        self.initializers = {x.name: x for x in self.graph.initializer}
        self.values = {x.name: x for x in (*self.graph.value_info, *self.graph.input, *self.graph.output)}
        self.outputs = _names(self.graph.output)
        # Tensors that depend on constants alone, with the node that makes them.
        self.constants: dict[str, onnx.NodeProto] = {}
        # Level of every tensor that depends on an input.
        self.levels = {x.name: 0 for x in self.graph.input}
        for node in self.graph.node:
            self._place(node)
        varying = [node for node in self.graph.node if node.output[0] in self.levels]
        self.attention = [node for node in varying if node.op_type == KERNEL]
        self.splits = [node for node in varying if self._is_view(node, varying)]
        others = {x.output[0] for x in (*self.attention, *self.splits)}
        self.compute = [node for node in varying if node.output[0] not in others]

    def _place(self, node: onnx.NodeProto) -> None:
        levels = [self.levels[x] for x in node.input if x in self.levels]
        for output in node.output:
            if levels:
                self.levels[output] = max(levels) + (node.op_type == KERNEL)
            else:
                self.constants[output] = node

    def _is_view(self, node: onnx.NodeProto, varying: list[onnx.NodeProto]) -> bool:
        if node.op_type != "Split" or set(node.output) & set(self.outputs):
            return False
        rank = len(self.values[node.input[0]].type.tensor_type.shape.dim)
        axis = next((x.i for x in node.attribute if x.name == "axis"), 0)
        users = [user for user in varying if set(user.input) & set(node.output)]
        explicit = len(node.input) == 2 and node.input[1] in self.initializers
        return explicit and axis in (-1, rank - 1) and all(user.op_type == KERNEL for user in users)

    def level_of(self, node: onnx.NodeProto) -> int:
        return self.levels[node.output[0]]

    def splits_at(self, level: int) -> Iterator[onnx.NodeProto]:
        return (node for node in self.splits if self.level_of(node) == level)

    def attention_after(self, level: int) -> Iterator[onnx.NodeProto]:
        return (node for node in self.attention if self.level_of(node) == level + 1)

    def split_sizes(self, node: onnx.NodeProto) -> tuple[int, ...]:
        return tuple(int(x) for x in numpy_helper.to_array(self.initializers[node.input[1]]))

    def segment(self, nodes: list[onnx.NodeProto], name: str) -> onnx.ModelProto:
        """The model of ``nodes``; its outputs are what any other node, or the caller, uses."""
        made = [x for node in nodes for x in node.output]
        used = _unique(x for node in nodes for x in node.input if x)
        mine = {node.output[0] for node in nodes}
        elsewhere = [*self.compute, *self.attention, *self.splits]
        wanted = {x for node in elsewhere if node.output[0] not in mine for x in node.input} | set(self.outputs)
        inputs = [x for x in used if x in self.levels and x not in made]
        outputs = [x for x in made if x in wanted]
        constant_nodes = self._constant_nodes(used)
        leaves = _unique([*used, *(x for node in constant_nodes for x in node.input)])
        graph = helper.make_graph(
            [*constant_nodes, *nodes],
            name,
            [self.values[x] for x in inputs],
            [self.values[x] for x in outputs],
            initializer=[self.initializers[x] for x in leaves if x in self.initializers],
            value_info=[self.values[x] for x in made if x not in outputs and x in self.values],
        )
        model = helper.make_model(graph, producer_name="crowd", opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = self.ir_version
        return model

    def _constant_nodes(self, used: list[str]) -> list[onnx.NodeProto]:
        needed = {x for x in used if x in self.constants}
        nodes = []
        # Backwards, so that the inputs of a needed node are known to be needed before it is reached.
        for node in reversed(self.graph.node):
            if needed & set(node.output):
                nodes.append(node)
                needed.update(node.input)
        return [node for node in reversed(nodes) if node.output[0] in self.constants]


def _names(values: Iterable[onnx.ValueInfoProto]) -> tuple[str, ...]:
    return tuple(value.name for value in values)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
