"""Makers of graphs that are sound but for one thing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from reliability.small_bundle import convolution, outside, sound_graphs

GRAPH = "first.onnx"
Change = Callable[[ModelProto], Any]


def field(number: int, content: bytes | int | float) -> bytes:
    """One field of a Protocol Buffers message: a number, contents, or (for a float) four bytes."""
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A number as Protocol Buffers write it."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def changed(change: Change) -> bytes:
    """The sound graph after ``change``."""
    model = onnx.load_from_string(sound_graphs()[GRAPH])
    change(model)
    return model.SerializeToString()


def more(operator: str, *inputs: str, tensors: tuple[TensorProto, ...] = (), **attributes: Any) -> bytes:
    """The sound graph with one operator more, whose output nobody reads."""

    def change(model: ModelProto) -> None:
        model.graph.initializer.extend(tensors)
        model.graph.node.append(_node(operator, inputs, **attributes))

    return changed(change)


def within(path: str, data: bytes) -> bytes:
    """The sound graph with ``data`` behind the fields of one of its messages, such as ``"graph node.0"``."""
    return _with_inserted(onnx.load_from_string(sound_graphs()[GRAPH]), path.split(), data)


def _with_inserted(message: Any, path: list[str], data: bytes) -> bytes:
    if not path:
        return bytes(message.SerializeToString() + data)
    name, _, index = path[0].partition(".")
    held = getattr(message, name)
    children = list(held) if index else [held]
    contents = [child.SerializeToString() for child in children]
    contents[int(index or 0)] = _with_inserted(children[int(index or 0)], path[1:], data)
    rest = type(message)()
    rest.CopyFrom(message)
    rest.ClearField(name)
    number = message.DESCRIPTOR.fields_by_name[name].number
    return bytes(rest.SerializeToString() + b"".join(field(number, content) for content in contents))


def _node(operator: str, inputs: tuple[str, ...], **attributes: Any) -> NodeProto:
    outputs = attributes.pop("outputs", ["junk"])
    return helper.make_node(operator, inputs, outputs, "junk", **attributes)


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def floats(name: str, *values: float) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def weights(inputs: int = 2, outputs: int = 4, kernel: int = 1) -> tuple[TensorProto, TensorProto]:
    return (
        numpy_helper.from_array(np.zeros((outputs, inputs, kernel, kernel), np.float32), "n.weight"),
        numpy_helper.from_array(np.zeros(outputs, np.float32), "n.bias"),
    )


def conv(tensors: tuple[TensorProto, TensorProto] | None = None, **attributes: Any) -> bytes:
    def change(model: ModelProto) -> None:
        model.graph.initializer.extend(tensors or weights())
        node = convolution("features", "junk", "n")
        for name, value in attributes.items():
            kept = [x for x in node.attribute if x.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, *([helper.make_attribute(name, value)] if value is not None else [])])
        model.graph.node.append(node)

    return changed(change)


def resize(scales: tuple[float, ...] = (1, 1, 2, 2), **attributes: Any) -> bytes:
    usual = {
        "antialias": 0, "coordinate_transformation_mode": "asymmetric", "cubic_coeff_a": -0.75, "exclude_outside": 0,
        "extrapolation_value": 0.0, "keep_aspect_ratio_policy": "stretch", "mode": "nearest", "nearest_mode": "floor",
    }  # fmt: skip
    return more("Resize", "features", "", "scales", tensors=(floats("scales", *scales),), **(usual | attributes))


def tensor(**values: Any) -> bytes:
    return changed(lambda model: model.graph.initializer.append(TensorProto(name="w", **values)))


def outside_tensor(**places: object) -> bytes:
    return changed(lambda model: model.graph.initializer.append(outside("w", [1], **places)))


def outside_twice(key: str, value: str) -> bytes:
    tensor = outside("w", [1])
    tensor.external_data.add(key=key, value=value)
    return changed(lambda model: model.graph.initializer.append(tensor))


def function(model: ModelProto, name: str, domain: str, operator: str, inner: str = "") -> None:
    node = helper.make_node(operator, ["a"], ["b"], domain=inner)
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function(domain, name, ["a"], ["b"], [node], opsets))


def subgraph() -> bytes:
    body = helper.make_graph([helper.make_node("Relu", ["x_t"], ["y"])], "body", [], [])
    return more("Relu", "x_t", body=body)


def ones_without_number() -> bytes:
    """A number of ones that is no number of pixels."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    return more("ConstantOfShape", "n", tensors=(numbers("n", 1 << 40),), value=one)


def pixels_less(taken: int) -> bytes:
    """The number of pixels, less a number."""

    def change(model: ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(taken, np.int64), "taken"))
        model.graph.node.extend(
            [
                helper.make_node("Shape", ["x_t"], ["sides"], start=2, end=4),
                helper.make_node("ReduceSum", ["sides"], ["sum"], keepdims=0),
                helper.make_node("Sub", ["sum", "taken"], ["junk"]),
            ]
        )

    return changed(change)


def turned() -> bytes:
    """A map whose rows grow with the columns of another."""

    def change(model: ModelProto) -> None:
        turn = helper.make_node("Transpose", ["x_t"], ["turned"], perm=[0, 2, 3, 1])
        model.graph.node.extend([turn, helper.make_node("Add", ["turned", "x_t"], ["junk"])])

    return changed(change)


def enlarged_again() -> bytes:
    model = onnx.load_from_string(resize())
    node = model.graph.node[-1]
    for number in range(5):
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[0], copy.output[0] = ("junk", *(f"junk{x}" for x in range(5)))[number], f"junk{number}"
        model.graph.node.append(copy)
    return model.SerializeToString()
