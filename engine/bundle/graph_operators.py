"""The operators that graphs of this engine have, with their attributes: the one table of what a bundle may contain.

It is what :mod:`engine.export` writes, and nothing else; a test exports networks and holds the table against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.bundle import graph_rules as rules
from engine.bundle.graph_shapes import Known
from engine.bundle.onnx_parts import BFLOAT16, FLOAT, FLOAT16, Tensor

STANDARD, OURS = "", "crowd"
# What the operators of each domain mean.
OPSETS = {STANDARD: 18, OURS: 1}
# The body of crowd::criss_cross_attention in standard operators, which no backend of this engine runs: sha256 of what
# is read of it.
ATTENTION_BODY = "5ffa55f6ea506e66cce8dd2720f8167b90877bee4712f6ebbc7dec91616b92a7"
_MOST_KERNEL, _MOST_STRIDE = 31, 8


@dataclass(frozen=True)
class Attribute:
    """What an attribute may be.

    Attributes:
        allows: whether a value is one that this engine's graphs have.
        default: where it is left out; ``REQUIRED`` if it must not be.
        choices: the values that it allows, where these can be listed.
    """

    allows: Callable[[Any], bool]
    default: Any
    choices: tuple[Any, ...] = ()


REQUIRED = object()


@dataclass(frozen=True)
class Operator:
    """What an operator may be.

    Attributes:
        inputs: how many it has.
        infer: types and shapes of its outputs, from those of its inputs and its attributes; ValueError if they are
            none that it takes.
        attributes: by name; it has no others.
        left_out: indices of inputs that are always left out.
    """

    inputs: range
    infer: Callable[[list[Known], Mapping[str, Any]], list[Known]]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    left_out: frozenset[int] = frozenset()


def _only(*values: Any, default: Any = REQUIRED) -> Attribute:
    """One of these values."""
    # Both must have the same type: True is 1 in Python, and 1 is 1.0.
    return Attribute(lambda value: any(type(value) is type(x) and value == x for x in values), default, values)


def _sizes(count: int, low: int, high: int) -> Attribute:
    """So many whole numbers in low..high."""

    def allows(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == count and all(low <= x <= high for x in value)

    return Attribute(allows, REQUIRED)


def _whole(low: int, high: int, default: Any = REQUIRED) -> Attribute:
    return Attribute(lambda value: isinstance(value, int) and low <= value <= high, default)


def _takes(low: int, high: int | None = None) -> range:
    return range(low, (high or low) + 1)


_CONVOLUTION = {
    "auto_pad": _only("NOTSET", default="NOTSET"),
    "dilations": _only((1, 1)),
    "group": _whole(1, 4096),
    "kernel_shape": _sizes(2, 1, _MOST_KERNEL),
    "pads": _sizes(4, 0, _MOST_KERNEL),
    "strides": _sizes(2, 1, _MOST_STRIDE),
}
# Each pixel becomes a square of the same value.
_NEAREST = {
    "antialias": _only(0),
    "coordinate_transformation_mode": _only("asymmetric"),
    "cubic_coeff_a": _only(-0.75),
    "exclude_outside": _only(0),
    "extrapolation_value": _only(0.0),
    "keep_aspect_ratio_policy": _only("stretch"),
    "mode": _only("nearest"),
    "nearest_mode": _only("floor"),
}
_PRODUCT = {"alpha": _only(1.0), "beta": _only(1.0), "transA": _only(0), "transB": _only(1)}
_UNARY = Operator(_takes(1), rules.unary)
_ARITHMETIC = Operator(_takes(2), rules.arithmetic)

OPERATORS: dict[str, Operator] = {
    "Add": _ARITHMETIC,
    "Cast": Operator(_takes(1), rules.cast, {"to": _only(FLOAT, FLOAT16, BFLOAT16)}),
    "Clip": Operator(_takes(3), rules.clip),
    "Concat": Operator(_takes(2, 8), rules.concatenation, {"axis": _only(1)}),
    "ConstantOfShape": Operator(
        _takes(1), rules.ones, {"value": Attribute(lambda value: isinstance(value, Tensor), REQUIRED)}
    ),
    # The exporter leaves a bias of zeros out.
    "Conv": Operator(_takes(2, 3), rules.convolution, _CONVOLUTION),
    "Cos": _UNARY,
    "DequantizeLinear": Operator(_takes(2, 3), rules.dequantization, {"axis": _only(0, default=1)}),
    "Gemm": Operator(_takes(2, 3), rules.matrix_product, _PRODUCT),
    "Greater": Operator(_takes(2), rules.comparison),
    "Log": _UNARY,
    "Mul": _ARITHMETIC,
    "QuantizeLinear": Operator(_takes(3), rules.quantization),
    "ReduceMean": Operator(_takes(2), rules.mean, {"keepdims": _only(0), "noop_with_empty_axes": _only(0)}),
    "ReduceSum": Operator(
        _takes(1, 2), rules.total, {"keepdims": _only(0, 1), "noop_with_empty_axes": _only(0, default=0)}
    ),
    "Relu": _UNARY,
    "Reshape": Operator(_takes(2), rules.reshape),
    "Resize": Operator(_takes(3), rules.enlargement, _NEAREST, frozenset({1})),
    "Shape": Operator(_takes(1), rules.shape, {"end": _only(4), "start": _only(2)}),
    "Sigmoid": _UNARY,
    "Sin": _UNARY,
    "Softmax": Operator(_takes(1), rules.shares, {"axis": _only(1)}),
    "Softplus": _UNARY,
    "Split": Operator(_takes(1, 2), rules.split, {"axis": _only(1, 3), "num_outputs": _whole(2, 8, default=None)}),
    "Sub": Operator(_takes(2), rules.subtraction),
    "Transpose": Operator(_takes(1), rules.transposition, {"perm": _only((0, 2, 3, 1), (0, 3, 1, 2))}),
    "Unsqueeze": Operator(_takes(2), rules.new_axes),
    "Where": Operator(_takes(3), rules.choice),
}
# In the graph of a whole program, which other runtimes run.
KERNEL_OPERATORS: dict[str, Operator] = {"criss_cross_attention": Operator(_takes(3), rules.attention)}
