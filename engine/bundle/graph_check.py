"""The graphs of one program looked through before a runtime sees them: what they compute, and how large it becomes.

A runtime trusts its graphs: OpenVINO gathers with indices that it does not check, and every runtime reserves what a
graph asks for. So each operator must be one that the exporter writes, with attributes and inputs as it writes them,
and the shape of every tensor must follow from the picture's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from engine.bundle.graph_operators import (
    ATTENTION_BODY,
    KERNEL_OPERATORS,
    OPERATORS,
    OPSETS,
    OURS,
    REQUIRED,
    STANDARD,
    Operator,
)
from engine.bundle.graph_shapes import Known, Side, fixed, require
from engine.bundle.onnx_parts import Function, Node, OnnxFile, Tensor, Value
from engine.config import PADDING

# Channels of a map, and numbers of a weight, at most.
_MOST_CHANNELS, _MOST_WEIGHTS = 4096, 1 << 26
# Numbers of a map for each pixel of the picture; those of the shipped model have at most 8.
_MOST_A_PIXEL = 128
# No map has more places than the picture has pixels: by symbol, the largest factor; and a border beside it.
_LARGEST = {"h32": 32, "w32": 32, "h8": 8, "w8": 8, "batch": 1, "pixels": 1}
_BORDER = 64


def check_graph(file: OnnxFile, given: Mapping[str, Known], outputs: tuple[str, ...], whole: bool) -> dict[str, Known]:
    """Look at every operator of a graph.

    Args:
        given: what is known of its inputs.
        outputs: that it must have.
        whole: it is the graph of a whole program, in which attention is an operator with a body.

    Returns:
        What is known of its outputs.

    Raises:
        ValueError: it has something that no graph of this engine has; the message says what.
    """
    allowed = OPSETS if whole else {STANDARD: OPSETS[STANDARD]}
    require(dict(file.opsets).items() <= allowed.items(), f"it is of opsets {dict(file.opsets)}, expected {allowed}")
    require(
        len(dict(file.opsets)) == len(file.opsets) and STANDARD in dict(file.opsets), "it names no opset, or one twice"
    )
    for function in file.functions:
        require(whole and len(file.functions) == 1, "it has functions")
        require(body_digest(function) == ATTENTION_BODY, f"its function {function.name[:80]!r} is not the attention")
    return _Walk(file, given, whole).run(outputs)


def body_digest(function: Function) -> str:
    """sha256 of all that is read of a function."""
    return hashlib.sha256(repr(function).encode()).hexdigest()


class _Walk:
    """One way through the nodes of a graph, in their order."""

    def __init__(self, file: OnnxFile, given: Mapping[str, Known], whole: bool):
        self._file, self._whole = file, whole
        self._known: dict[str, Known] = {}
        self._symbols: dict[str, Side] = {}
        for tensor in file.tensors:
            self._note(tensor.name, _constant(tensor))
        names = [value.name for value in file.inputs]
        require(sorted(names) == sorted(given), f"it has inputs {names}, expected {list(given)}")
        for name in names:
            self._note(name, given[name])
        for value in file.inputs:
            self._compare(value)

    def run(self, outputs: tuple[str, ...]) -> dict[str, Known]:
        for node in self._file.nodes:
            for name, known in zip(node.outputs, self._made_by(node), strict=True):
                _check_size(known)
                self._note(name, known)
        names = [value.name for value in self._file.outputs]
        require(sorted(names) == sorted(outputs), f"it has outputs {names}, expected {list(outputs)}")
        for value in (*self._file.outputs, *self._file.values):
            require(value.name in self._known, f"nothing makes {value.name!r}")
            self._compare(value)
        return {name: self._known[name] for name in outputs}

    def _made_by(self, node: Node) -> list[Known]:
        operator = self._operator(node)
        try:
            made = operator.infer(self._inputs(node, operator), _attributes(node, operator))
            require(len(made) == len(node.outputs), f"it has {len(node.outputs)} outputs, expected {len(made)}")
        except ValueError as error:
            place = node.outputs[0] if node.outputs else "nothing"
            raise ValueError(f"operator {node.operator} that makes {place!r} is refused: {error}") from None
        return made

    def _operator(self, node: Node) -> Operator:
        tables = {STANDARD: OPERATORS, OURS: KERNEL_OPERATORS if self._whole else {}}
        operator = tables.get(node.domain, {}).get(node.operator)
        if operator is None:
            name = node.operator[:80]
            raise ValueError(f"operator {name!r} of domain {node.domain[:80]!r} is none that this engine's graphs have")
        return operator

    def _inputs(self, node: Node, operator: Operator) -> list[Known]:
        require(len(node.inputs) in operator.inputs, f"it has {len(node.inputs)} inputs")
        given = []
        for index, name in enumerate(node.inputs):
            if index in operator.left_out:
                require(name == "", f"it has an input {name!r}")
                continue
            require(name in self._known, f"it reads {name!r}, which nothing makes before it")
            given.append(self._known[name])
        return given

    def _note(self, name: str, known: Known) -> None:
        require(name != "" and name not in self._known, f"the name {name!r} is given twice, or empty")
        self._known[name] = known

    def _compare(self, value: Value) -> None:
        """What the graph says of a tensor is what follows from its operators."""
        known = self._known[value.name]
        same = value.type == known.type and len(value.sides) == len(known.sides)
        for said, side in zip(value.sides, known.sides, strict=False):
            # A runtime may take sides of one name for equal.
            same &= (fixed(said) if isinstance(said, int) else self._symbols.setdefault(said, side)) == side
        require(same, f"it says of {value.name!r} that it has type {value.type} and shape {list(value.sides)}")


def _constant(tensor: Tensor) -> Known:
    return Known(tensor.type, tuple(map(fixed, tensor.sides)), tensor.values)


def _attributes(node: Node, operator: Operator) -> dict[str, Any]:
    """The node's attributes, with the defaults of those that are left out."""
    unknown = node.attributes.keys() - operator.attributes.keys()
    require(not unknown, f"it has attributes {sorted(unknown)}")
    values = {}
    for name, attribute in operator.attributes.items():
        value = node.attributes.get(name, attribute.default)
        require(value is not REQUIRED, f"it has no attribute {name!r}")
        require(name not in node.attributes or attribute.allows(value), f"its attribute {name!r} is {value!r}"[:200])
        values[name] = value
    return values


def _check_size(known: Known) -> None:
    places = [side for side in known.sides if side.symbol]
    numbers = math.prod(side.offset for side in known.sides if not side.symbol)
    require(numbers <= (_MOST_CHANNELS if places else _MOST_WEIGHTS), f"it makes a tensor with {numbers} channels")
    symbols = [side.symbol for side in places]
    require(len(set(symbols)) == len(symbols), "it makes a tensor that grows twice with one side of the picture")
    for side in places:
        fits = 0 < side.factor <= _LARGEST[side.symbol] and abs(side.offset) <= _BORDER
        require(fits, "it makes a tensor with more places than the picture has pixels")
    # As floats: exact, as the factors are small and the divisors are powers of two.
    values = numbers * math.prod(side.factor / _LARGEST[side.symbol] for side in places)
    if symbols == ["batch"]:
        # So many of a picture, which has a square of padding at least.
        values /= PADDING**2
    require(not places or values <= _MOST_A_PIXEL, f"it makes a tensor with {values:g} values for each pixel")
