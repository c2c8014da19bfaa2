"""Types and shapes of tensors, whatever the size of the picture.

A side of a tensor is a number, or a number times a symbol plus a number: of a picture of 32 * h32 rows, a convolution
of stride 2 makes 16 * h32. So it is known of every tensor how large it becomes, whatever the picture, before a runtime
sees the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from engine.bundle.onnx_parts import BFLOAT16, FLOAT, FLOAT16

FLOATS = frozenset({FLOAT, FLOAT16, BFLOAT16})


class Side(NamedTuple):
    """``factor * symbol + offset`` elements; a number alone has the symbol "" and the factor 0."""

    symbol: str
    factor: int
    offset: int

    @property
    def size(self) -> int:
        """The number of elements, of a side that is a number."""
        if self.symbol:
            raise ValueError(f"{self.factor} * {self.symbol} + {self.offset} is no fixed size")
        return self.offset

    @property
    def smallest(self) -> int:
        """Elements at a symbol of 1."""
        return self.factor + self.offset


@dataclass(frozen=True)
class Known:
    """What is known of a tensor.

    Attributes:
        type: of its elements, as in an ONNX file.
        values: of a small constant; None for others.
        least: of a number that was made of a map's sides alone, the smallest that it can be; None for others.
    """

    type: int
    sides: tuple[Side, ...]
    values: tuple[float, ...] | None = None
    least: int | None = None


def fixed(size: int) -> Side:
    """A side of a number of elements.

    >>> fixed(3).size
    3
    """
    return Side("", 0, size)


def sides(*sizes: int | Side) -> tuple[Side, ...]:
    """A shape of numbers and sides."""
    return tuple(x if isinstance(x, Side) else fixed(x) for x in sizes)


def require(condition: bool, problem: str) -> None:
    """Refuse a graph.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(problem)


def as_float(x: Known) -> Known:
    """The tensor, which must have a floating-point type."""
    require(x.type in FLOATS, f"its input has type {x.type}")
    return x


def constants(x: Known, kind: int) -> tuple[float, ...]:
    """The values of a small constant."""
    if x.type != kind or x.values is None or len(x.sides) > 1:
        raise ValueError(f"a setting of it is no list of constants of type {kind}")
    return x.values


def broadcast(a: tuple[Side, ...], b: tuple[Side, ...]) -> tuple[Side, ...]:
    """The shape of what two tensors make element by element."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    made = list(longer)
    for axis in range(-len(shorter), 0):
        one, other = longer[axis], shorter[axis]
        require(one == other or fixed(1) in (one, other), "its inputs are of different sizes")
        made[axis] = other if one == fixed(1) else one
    return tuple(made)
