"""What is read of an ONNX file: operators, constants, and what it says of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Element types by their number in an ONNX file: those that graphs of this engine have.
FLOAT, UINT8, INT8, INT64, BOOL, FLOAT16, BFLOAT16 = 1, 2, 3, 7, 9, 10, 16


@dataclass(frozen=True)
class Tensor:
    """A constant.

    Attributes:
        sides: at most four.
        values: of a tensor of few elements that lies in the graph; None for all others.
        file: that its values lie in; "" when they lie in the graph.
        offset: of the values in that file.
    """

    name: str
    type: int
    sides: tuple[int, ...]
    values: tuple[float, ...] | None
    file: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Node:
    """One operator with what it reads and makes; names are "" where an input is left out."""

    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Value:
    """What the graph says of one of its inputs or outputs; a side is a size, a symbol's name, or "" for anything."""

    name: str
    type: int
    sides: tuple[int | str, ...]


@dataclass(frozen=True)
class Function:
    """A new operator made of others."""

    name: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    opsets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class OnnxFile:
    """All that matters of one file."""

    opsets: tuple[tuple[str, int], ...]
    nodes: tuple[Node, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    values: tuple[Value, ...]
    functions: tuple[Function, ...]
