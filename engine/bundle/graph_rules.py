"""What each operator of this engine's graphs makes of what it reads, in types and shapes: the rules behind the table.

Each rule raises ValueError where its operator is fed with what no graph of this engine feeds it with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.bundle.graph_shapes import FLOATS, Known, Side, as_float, broadcast, constants, fixed, require, sides
from engine.bundle.onnx_parts import BOOL, FLOAT, INT8, INT64, UINT8

Given = Sequence[Known]
Attributes = Mapping[str, Any]


def unary(given: Given, attributes: Attributes) -> list[Known]:
    (x,) = given
    return [Known(as_float(x).type, x.sides)]


def shares(given: Given, attributes: Attributes) -> list[Known]:
    """Of the channels of a map."""
    require(len(given[0].sides) == 4, "its input is no map")
    return unary(given, attributes)


def arithmetic(given: Given, attributes: Attributes) -> list[Known]:
    a, b = given
    require(as_float(a).type == b.type, f"its inputs have types {a.type} and {b.type}")
    return [Known(a.type, broadcast(a.sides, b.sides))]


def subtraction(given: Given, attributes: Attributes) -> list[Known]:
    """Of maps, or 1 of a number of pixels."""
    a, b = given
    if a.least is None:
        return arithmetic(given, attributes)
    require(a.least > 1 and b == Known(INT64, (), (1,)), "it subtracts something else than 1 from a number of pixels")
    return [replace(a, least=a.least - 1)]


def comparison(given: Given, attributes: Attributes) -> list[Known]:
    return [replace(arithmetic(given, attributes)[0], type=BOOL)]


def choice(given: Given, attributes: Attributes) -> list[Known]:
    condition, *others = given
    require(condition.type == BOOL, f"its condition has type {condition.type}")
    (made,) = arithmetic(others, attributes)
    return [Known(made.type, broadcast(condition.sides, made.sides))]


def clip(given: Given, attributes: Attributes) -> list[Known]:
    x, low, high = given
    require(not low.sides and not high.sides and low.type == high.type == x.type, "its limits are no numbers")
    # One that equals a weight may lie among the weights.
    (least,), (most,) = low.values or (-math.inf,), high.values or (math.inf,)
    require(least <= most, f"its limits are {least} and {most}")
    return unary([x], attributes)


def cast(given: Given, attributes: Attributes) -> list[Known]:
    (x,) = given
    require(x.type in FLOATS or x.least is not None, f"its input has type {x.type}")
    return [Known(attributes["to"], x.sides, x.values if x.type in FLOATS else None)]


def concatenation(given: Given, attributes: Attributes) -> list[Known]:
    """Of channels."""
    first = as_float(given[0])
    for x in given:
        same = x.type == first.type and len(x.sides) == len(first.sides) > 1
        require(same and x.sides[0] == first.sides[0] and x.sides[2:] == first.sides[2:], "its inputs do not fit")
    channels = sum(x.sides[1].size for x in given)
    return [Known(first.type, (first.sides[0], fixed(channels), *first.sides[2:]))]


def convolution(given: Given, attributes: Attributes) -> list[Known]:
    x, weight, *biases = given
    require(all(as_float(x).type == other.type for other in (weight, *biases)), "its inputs have different types")
    require(len(x.sides) == len(weight.sides) == 4, "its inputs are no maps")
    channels, (outputs, inputs, *kernel) = x.sides[1].size, (side.size for side in weight.sides)
    group = attributes["group"]
    # It has one group, or as many as there are channels.
    require(group == 1 or group == channels == outputs, f"it has {group} groups of {channels} channels")
    fits = inputs * group == channels and all(bias.sides == sides(outputs) for bias in biases)
    require(fits, "its weights do not fit its input")
    require(attributes["kernel_shape"] == tuple(kernel), "its weights are not of the size of its kernel")
    pads, strides = attributes["pads"], attributes["strides"]
    require(all(pad < size for pad, size in zip(pads, (*kernel, *kernel), strict=True)), f"it has pads {pads}")
    rows, columns = (
        _strided(x.sides[axis + 2], strides[axis], pads[axis] + pads[axis + 2] - kernel[axis]) for axis in (0, 1)
    )
    return [Known(x.type, (x.sides[0], fixed(outputs), rows, columns))]


def ones(given: Given, attributes: Attributes) -> list[Known]:
    """As many as a number of pixels says."""
    (length,) = given
    value = attributes["value"]
    require(length.least is not None and length.sides == sides(1), "its length is no number of pixels")
    require(value.type == FLOAT and value.sides == (1,) and value.values == (1,), "it is not filled with ones")
    return [Known(FLOAT, (Side("pixels", 1, 0),))]


def mean(given: Given, attributes: Attributes) -> list[Known]:
    """Of each channel of a map."""
    x, axes = given
    require(len(as_float(x).sides) == 4, "its input is no map")
    require(constants(axes, INT64) in ((2, 3), (-2, -1)) and axes.sides == sides(2), "it is no mean over places")
    return [Known(x.type, x.sides[:2])]


def total(given: Given, attributes: Attributes) -> list[Known]:
    """Of the two sides of a map, of ones, or of the channels of a map."""
    x, *axes = given
    if axes:
        require(len(as_float(x).sides) == 4 and attributes["keepdims"] == 1, "its input is no map")
        require(constants(axes[0], INT64) == (1,) and axes[0].sides == sides(1), "it does not sum channels")
        return [Known(x.type, (x.sides[0], fixed(1), *x.sides[2:]))]
    require(attributes["keepdims"] == 0, "it keeps the axes that it sums")
    require(x.least is not None or x.sides == (Side("pixels", 1, 0),), "its input is neither a shape nor made of ones")
    return [Known(x.type, (), None, None if x.least is None else 2 * x.least)]


def shape(given: Given, attributes: Attributes) -> list[Known]:
    (x,) = given
    require(len(x.sides) == 4, "its input is no map")
    return [Known(INT64, sides(2), None, 1)]


def reshape(given: Given, attributes: Attributes) -> list[Known]:
    """A number as a list of one."""
    x, target = given
    require(x.least is not None and not x.sides and target.type == INT64, "its input is no number of pixels")
    require(target.values == (1,) and target.sides == sides(1), f"it makes a tensor of shape {target.values}")
    return [replace(x, sides=sides(1))]


def dequantization(given: Given, attributes: Attributes) -> list[Known]:
    x, scale, *zero = given
    require(x.type in (INT8, UINT8) and scale.type == FLOAT, f"its input has type {x.type}")
    if zero:
        require(zero[0].type == x.type, "its zero has another type")
        _check_steps(scale, zero[0])
    else:
        require(x.type == INT8, f"its input has type {x.type}")
        require(attributes["axis"] == 0 and scale.sides == x.sides[:1] and bool(x.sides), "its scales do not fit")
    return [Known(FLOAT, x.sides)]


def quantization(given: Given, attributes: Attributes) -> list[Known]:
    x, scale, zero = given
    require(x.type == scale.type == FLOAT, f"its input has type {x.type}")
    _check_steps(scale, zero)
    return [Known(zero.type, x.sides)]


def matrix_product(given: Given, attributes: Attributes) -> list[Known]:
    x, weight, *biases = given
    require(all(as_float(x).type == other.type for other in (weight, *biases)), "its inputs have different types")
    require(len(x.sides) == len(weight.sides) == 2, "its inputs are no matrices")
    outputs, inputs = (side.size for side in weight.sides)
    fits = x.sides[1].size == inputs and all(bias.sides == sides(outputs) for bias in biases)
    require(fits, "its weights do not fit its input")
    return [Known(x.type, (x.sides[0], fixed(outputs)))]


def enlargement(given: Given, attributes: Attributes) -> list[Known]:
    x, scales = given
    require(len(as_float(x).sides) == 4, "its input is no map")
    factors = constants(scales, FLOAT)
    require(factors in ((1, 1, 2, 2), (1, 1, 4, 4), (1, 1, 8, 8)), f"its scales are {factors}")
    times = int(factors[3])
    made = (Side(side.symbol, side.factor * times, side.offset * times) for side in x.sides[2:])
    return [Known(x.type, (*x.sides[:2], *made))]


def split(given: Given, attributes: Attributes) -> list[Known]:
    x, *lengths = given
    axis = attributes["axis"]
    require(axis < len(as_float(x).sides), f"its input has {len(x.sides)} axes")
    whole = x.sides[axis].size
    if lengths:
        parts = list(map(int, constants(lengths[0], INT64)))
    else:
        count = attributes["num_outputs"]
        require(count is not None and whole % count == 0, f"it cuts {whole} channels into {count} parts")
        parts = [whole // count] * count
    require(min(parts) > 0 and sum(parts) == whole, f"it cuts {whole} channels into {parts}")
    return [Known(x.type, (*x.sides[:axis], fixed(part), *x.sides[axis + 1 :])) for part in parts]


def transposition(given: Given, attributes: Attributes) -> list[Known]:
    (x,) = given
    require(len(as_float(x).sides) == 4, "its input is no map")
    return [Known(x.type, tuple(x.sides[axis] for axis in attributes["perm"]))]


def new_axes(given: Given, attributes: Attributes) -> list[Known]:
    x, axes = given
    wanted = list(map(int, constants(axes, INT64)))
    rank = len(as_float(x).sides) + len(wanted)
    require(len(set(wanted)) == len(wanted) and all(0 <= axis < rank <= 4 for axis in wanted), f"its axes are {wanted}")
    rest = iter(x.sides)
    return [Known(x.type, tuple(fixed(1) if axis in wanted else next(rest) for axis in range(rank)))]


def attention(given: Given, attributes: Attributes) -> list[Known]:
    """q, k [B, H, W, D] and v [B, H, W, C] -> [B, H, W, C]."""
    q, k, v = given
    require(as_float(q).type == k.type == v.type, f"q, k and v have types {q.type}, {k.type} and {v.type}")
    require(len(q.sides) == len(v.sides) == 4, "q, k and v are no maps")
    require(q.sides == k.sides and q.sides[:3] == v.sides[:3], "q, k and v are of different sizes")
    require(q.sides[3].size > 0 and v.sides[3].size > 0, "q, k and v have no channels")
    return [Known(v.type, v.sides)]


def _strided(side: Side, stride: int, more: int) -> Side:
    require(side.factor % stride == 0, f"a stride of {stride} does not divide {side.factor} * {side.symbol}")
    made = Side(side.symbol, side.factor // stride, (side.offset + more) // stride + 1)
    require(made.smallest > 0, "its kernel is larger than its input")
    return made


def _check_steps(scale: Known, zero: Known) -> None:
    require(not scale.sides and 0 < constants(scale, FLOAT)[0] < 1e30, "its scale is no size of steps")
    require(zero.type in (INT8, UINT8) and zero == Known(zero.type, (), (0,)), "its zero is not 0")
