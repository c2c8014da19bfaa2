"""Graphs that a stranger could write: each is a sound one with one thing wrong, and what its refusal must say."""

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


def _numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _floats(name: str, *values: float) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


def _weights(inputs: int = 2, outputs: int = 4, kernel: int = 1) -> tuple[TensorProto, TensorProto]:
    return (
        numpy_helper.from_array(np.zeros((outputs, inputs, kernel, kernel), np.float32), "n.weight"),
        numpy_helper.from_array(np.zeros(outputs, np.float32), "n.bias"),
    )


def _conv(tensors: tuple[TensorProto, TensorProto] | None = None, **attributes: Any) -> bytes:
    def change(model: ModelProto) -> None:
        model.graph.initializer.extend(tensors or _weights())
        node = convolution("features", "junk", "n")
        for name, value in attributes.items():
            kept = [x for x in node.attribute if x.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, *([helper.make_attribute(name, value)] if value is not None else [])])
        model.graph.node.append(node)

    return changed(change)


def _resize(scales: tuple[float, ...] = (1, 1, 2, 2), **attributes: Any) -> bytes:
    usual = {
        "antialias": 0, "coordinate_transformation_mode": "asymmetric", "cubic_coeff_a": -0.75, "exclude_outside": 0,
        "extrapolation_value": 0.0, "keep_aspect_ratio_policy": "stretch", "mode": "nearest", "nearest_mode": "floor",
    }  # fmt: skip
    return more("Resize", "features", "", "scales", tensors=(_floats("scales", *scales),), **(usual | attributes))


def _tensor(**values: Any) -> bytes:
    return changed(lambda model: model.graph.initializer.append(TensorProto(name="w", **values)))


def _outside(**places: object) -> bytes:
    return changed(lambda model: model.graph.initializer.append(outside("w", [1], **places)))


def _outside_twice(key: str, value: str) -> bytes:
    tensor = outside("w", [1])
    tensor.external_data.add(key=key, value=value)
    return changed(lambda model: model.graph.initializer.append(tensor))


def _function(model: ModelProto, name: str, domain: str, operator: str, inner: str = "") -> None:
    node = helper.make_node(operator, ["a"], ["b"], domain=inner)
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function(domain, name, ["a"], ["b"], [node], opsets))


def _subgraph() -> bytes:
    body = helper.make_graph([helper.make_node("Relu", ["x_t"], ["y"])], "body", [], [])
    return more("Relu", "x_t", body=body)


def _sizes() -> bytes:
    """A number of ones that is no number of pixels."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    return more("ConstantOfShape", "n", tensors=(_numbers("n", 1 << 40),), value=one)


def _pixels(taken: int) -> bytes:
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


def _turned() -> bytes:
    """A map whose rows grow with the columns of another."""

    def change(model: ModelProto) -> None:
        turn = helper.make_node("Transpose", ["x_t"], ["turned"], perm=[0, 2, 3, 1])
        model.graph.node.extend([turn, helper.make_node("Add", ["turned", "x_t"], ["junk"])])

    return changed(change)


def _repeated_enlargement() -> bytes:
    model = onnx.load_from_string(_resize())
    node = model.graph.node[-1]
    for number in range(5):
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[0], copy.output[0] = ("junk", *(f"junk{x}" for x in range(5)))[number], f"junk{number}"
        model.graph.node.append(copy)
    return model.SerializeToString()


_SOUND = sound_graphs()[GRAPH]
_FLOAT = TensorProto.FLOAT
# By name: the graph, and a part of the reason that its refusal gives.
HOSTILE_GRAPHS: dict[str, tuple[bytes, str]] = {
    # Files.
    "weights of another file": (_outside(location="../../../etc/passwd"), "none of the bundle's"),
    "weights of an absolute path": (_outside(location="/etc/passwd"), "none of the bundle's"),
    "weights of a graph": (_outside(location=GRAPH), "none of the bundle's"),
    "weights behind the end": (_outside(offset=4999), "behind its end"),
    "a negative offset": (_outside(offset=-4), "is no size"),
    "an endless offset": (_outside(offset="9" * 900), "is no size"),
    "a length of its own": (_outside(length=4), "takes 4 bytes"),
    "no length": (_outside(length=None), "more than one file"),
    "a second file": (_outside_twice("location", "secret.bin"), "more than one file"),
    "a checksum": (_outside_twice("checksum", "0"), "more than one file"),
    "a hidden key": (
        within("graph initializer.0 external_data.0", varint(1 << 3 | 1) + b"aaaaaaaa"), "field key",
    ),
    "values in two places": (
        changed(lambda x: x.graph.initializer.append(TensorProto(name="w", dims=[1], data_type=10, data_location=1,
            raw_data=b"\0\0", external_data=outside("", [1]).external_data))), "in the graph and in another file"),
    "values nowhere": (_tensor(dims=[1], data_type=_FLOAT), "in 0 fields"),
    # Sizes of constants.
    "a huge tensor": (_tensor(dims=[1 << 20, 1 << 20], data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "a product that wraps": (_tensor(dims=[(1 << 33) + 1] * 2, data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "a negative side": (_tensor(dims=[-1], data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "no elements": (_tensor(dims=[0], data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "five sides": (_tensor(dims=[1] * 5, data_type=_FLOAT, raw_data=bytes(4)), "a tensor has shape"),
    "sides behind the 16th": (_tensor(dims=[1] * 16 + [1 << 20], data_type=_FLOAT, raw_data=bytes(4)), "has shape"),
    "sides hidden by four bytes": (within("graph initializer.0", field(1, 0.0)), "field sides"),
    "too few bytes": (_tensor(dims=[3], data_type=_FLOAT, raw_data=bytes(8)), "has 8 bytes"),
    "too few numbers": (_tensor(dims=[3], data_type=_FLOAT, float_data=[1, 2]), "has 2 floats"),
    "strings": (_tensor(dims=[1], data_type=8, string_data=[b"x"]), "field 6"),
    "double numbers": (_tensor(dims=[1], data_type=11, raw_data=bytes(8)), "type 11"),
    "a type that wraps": (within("graph", field(5, field(1, 1) + field(2, (1 << 32) + 1) + field(9, bytes(4)))),
                          "4294967297 where a number of 32 bits"),
    # Ways of writing.
    "an operator hidden by eight bytes": (
        within("graph node.0", varint(4 << 3 | 1) + b"Identity"), "field operator of a node"),
    "an operator given twice": (within("graph node.0", field(4, b"Relu")), "field operator twice"),
    "two graphs": (_SOUND + field(7, b""), "field graph twice"),
    "a graph in a number": (field(8, 0) + b"\x38\x01", "wrong type"),
    "no graph": (field(1, 10), "has no graph"),
    "a side twice": (within("graph input.0 type tensor_type shape dim.0", field(1, 1)),
                     "the shape of"),
    "a long number": (within("graph initializer.0", b"\x08\x80\x00"), "no exporter writes"),
    "a number beyond 64 bits": (within("graph initializer.0", b"\x08" + b"\xff" * 9 + b"\x7f"), "no exporter"),
    "an endless number": (_SOUND + b"\x08" + b"\xff" * 100, "cut short"),
    "a length behind the end": (_SOUND + b"\x3a\xff\xff\xff\xff\x0f", "cut short"),
    "a group": (_SOUND + b"\x3b\x3c", "cut short"),
    "an unknown field": (_SOUND + field(99, 1), "field 99"),
    "training": (_SOUND + field(20, b""), "field 20"),
    "sparse weights": (within("graph", field(15, b"")), "field 15"),
    "metadata": (_SOUND + field(14, b""), "field 14"),
    "no text": (_SOUND.replace(b"merged", b"mer\xffed"), "is no name"),
    "a zero in a name": (_SOUND.replace(b"merged", b"me\0ged"), "is no name"),
    "cut": (_SOUND[:-1], "cut short"),
    "markup": (b"<?xml version='1.0'?><net/>", "no ONNX file"),
    "nothing": (b"", "has no graph"),
    # Operators.
    "gathering far away": (more("GatherND", "x_t", "i", tensors=(_numbers("i", 0, 0, 0, 1 << 40),)), "'GatherND'"),
    "scattering": (more("ScatterND", "x_t", "i", "x_t", tensors=(_numbers("i", 1 << 27),)), "'ScatterND'"),
    "a loop": (more("Loop", "", "", "x_t"), "'Loop'"),
    "a condition": (more("If", "x_t"), "'If'"),
    "another domain": (more("Relu", "x_t", domain="com.microsoft"), "com.microsoft"),
    "an unknown kernel": (more("shell", "x_t", domain="crowd"), "'shell'"),
    "a kernel in a segment": (more("criss_cross_attention", *["x_t"] * 3, domain="crowd"), "'criss_cross_attention'"),
    "an operator without a name": (within("graph", field(1, b"")), "operator ''"),
    "a graph in an operator": (_subgraph(), "field 6"),
    "a function for an operator": (changed(lambda x: _function(x, "Relu", "", "Acosh")), "it has functions"),
    "a function that calls itself": (changed(lambda x: _function(x, "f", "crowd", "f", "crowd")), "it has functions"),
    "another opset": (changed(lambda x: setattr(x.opset_import[0], "version", 21)), "of opsets"),
    "two opsets of one domain": (
        changed(lambda x: x.opset_import.extend([helper.make_opsetid("", 18)])), "or one twice"),
    "no opset": (changed(lambda x: x.ClearField("opset_import")), "no opset"),
    # Attributes.
    "an attribute twice": (
        changed(lambda x: x.graph.node[-2].attribute.append(helper.make_attribute("perm", [0]))), "attribute twice"),
    "an unknown attribute": (more("Relu", "x_t", alpha=1), "attributes ['alpha']"),
    "no attribute": (more("Transpose", "x_t"), "no attribute 'perm'"),
    "an order that is none": (more("Transpose", "x_t", perm=[0, 0, 0, 0]), "attribute 'perm'"),
    "an order of far axes": (more("Transpose", "x_t", perm=[0, 1 << 40, 3, 1]), "attribute 'perm'"),
    "an axis far away": (more("Concat", "x_t", "x_t", axis=1 << 40), "attribute 'axis'"),
    "a negative axis": (more("Concat", "x_t", "x_t", axis=-4), "attribute 'axis'"),
    "a type that is none": (more("Cast", "x_t", to=999), "attribute 'to'"),
    "a type of strings": (more("Cast", "x_t", to=TensorProto.STRING), "attribute 'to'"),
    "another type of attribute": (more("Concat", "x_t", "x_t", axis=1.0), "attribute 'axis'"),
    # Convolutions.
    "huge pads": (_conv(pads=[1 << 40] * 4), "attribute 'pads'"),
    "negative pads": (_conv(pads=[-1, 0, 0, 0]), "attribute 'pads'"),
    "pads as wide as the kernel": (_conv(pads=[1, 0, 0, 0]), "it has pads"),
    "two pads": (_conv(pads=[0, 0]), "attribute 'pads'"),
    "a stride of zero": (_conv(strides=[0, 0]), "attribute 'strides'"),
    "a huge stride": (_conv(strides=[1 << 62, 1]), "attribute 'strides'"),
    "a stride that does not divide": (_conv(strides=[2, 2]), "a stride of 2 does not divide"),
    "a wide kernel of few weights": (_conv(kernel_shape=[31, 31]), "not of the size of its kernel"),
    "dilation": (_conv(dilations=[1 << 40] * 2), "attribute 'dilations'"),
    "pads of the runtime's choice": (_conv(auto_pad="SAME_UPPER"), "attribute 'auto_pad'"),
    "no groups": (_conv(group=0), "attribute 'group'"),
    "groups that do not divide": (_conv(group=3), "3 groups of 2 channels"),
    "weights of other channels": (_conv(_weights(inputs=3)), "do not fit its input"),
    "a short bias": (_conv((_weights()[0], _floats("n.bias", 1, 2))), "do not fit its input"),
    "no rank": (_conv((_floats("n.weight", 1), _floats("n.bias", 1))), "no maps"),
    # Other operators with what they must not have.
    "ones without number": (_sizes(), "its length is no number of pixels"),
    "a negative number of pixels": (_pixels(1 << 40), "something else than 1"),
    "the sum of a map": (more("ReduceSum", "x_t", keepdims=0), "neither a shape nor made of ones"),
    "enlarged without end": (_resize((1, 1, 1e9, 1e9)), "its scales are"),
    "made small": (_resize((1, 1, 0, 0)), "its scales are"),
    "scales that are none": (_resize((1, 1, float("nan"), float("nan"))), "its scales are"),
    "more channels": (_resize((1, 2, 2, 2)), "its scales are"),
    "two scales": (_resize((2, 2)), "its scales are"),
    "enlarged again and again": (_repeated_enlargement(), "more places than the picture"),
    "another way to enlarge": (_resize(mode="cubic"), "attribute 'mode'"),
    "cut far away": (more("Split", "features", "n", tensors=(_numbers("n", 1 << 40, 2 - (1 << 40)),), axis=1,
                          outputs=["a", "b"]), "it cuts 2 channels"),
    "cut into more than there is": (more("Split", "features", "n", tensors=(_numbers("n", 2, 2),), axis=1,
                                         outputs=["a", "b"]), "it cuts 2 channels"),
    "cut into too many names": (more("Split", "features", axis=1, num_outputs=2, outputs=["a"]), "has 1 outputs"),
    "cut along the columns": (more("Split", "features", axis=3, num_outputs=2, outputs=["a", "b"]), "no fixed size"),
    "axes far away": (more("Unsqueeze", "t", "n", tensors=(_numbers("n", 1 << 40),)), "its axes are"),
    "an axis twice": (more("Unsqueeze", "t", "n", tensors=(_numbers("n", 1, 1),)), "its axes are"),
    "axes that come from a picture": (more("Unsqueeze", "t", "x_t"), "no list of constants of type 7"),
    "another shape": (more("Reshape", "x_t", "n", tensors=(_numbers("n", -1, 1 << 40),)), "no number of pixels"),
    "steps of no size": (
        more("QuantizeLinear", "x_t", "s", "z", tensors=(numpy_helper.from_array(np.float32(0), "s"),
             numpy_helper.from_array(np.int8(0), "z"))), "no size of steps"),
    "a scale for each of other channels": (
        more("DequantizeLinear", "w8", "s", axis=0, tensors=(numpy_helper.from_array(np.zeros((2, 2), np.int8), "w8"),
             _floats("s", 1, 1, 1))), "scales do not fit"),
    "scales along a far axis": (
        more("DequantizeLinear", "w8", "s", axis=9, tensors=(numpy_helper.from_array(np.zeros((2, 2), np.int8), "w8"),
             _floats("s", 1, 1))), "attribute 'axis'"),
    "limits the wrong way round": (
        more("Clip", "x_t", "l", "h", tensors=(numpy_helper.from_array(np.float32(6), "l"),
             numpy_helper.from_array(np.float32(0), "h"))), "its limits are"),
    "limits from a picture": (more("Clip", "x_t", "x_t", "x_t"), "its limits are no numbers"),
    "a product of maps": (more("Gemm", "x_t", "x_t", "x_t", alpha=1.0, beta=1.0, transA=0, transB=1), "no matrices"),
    "maps of other sizes": (more("Add", "features", "x_t2", tensors=(_floats("x_t2", 1, 2, 3),)), "different sizes"),
    "rows for columns": (_turned(), "different sizes"),
    "other types": (more("Add", "x_t", "n", tensors=(_numbers("n", 1),)), "have types"),
    "whole numbers": (more("Relu", "n", tensors=(_numbers("n", 1),)), "has type 7"),
    "channels without number": (
        _conv(_weights(outputs=5000)), "5000 channels"),
    # Names.
    "what nothing makes": (more("Relu", "nothing"), "which nothing makes"),
    "what is made later": (more("Relu", "junk"), "which nothing makes"),
    "no input": (more("Relu"), "it has 0 inputs"),
    "an input left out": (more("Add", "x_t", ""), "which nothing makes"),
    "a name given twice": (more("Relu", "x_t", outputs=["merged"]), "given twice"),
    "a constant for an input": (
        changed(lambda x: x.graph.initializer.append(numpy_helper.from_array(np.float32(0), "x_t"))), "given twice"),
    "an input more": (
        changed(lambda x: x.graph.input.append(helper.make_tensor_value_info("more", _FLOAT, [1]))), "it has inputs"),
    "an output less": (changed(lambda x: x.graph.output.pop()), "it has outputs"),
    "an output that nothing makes": (
        changed(lambda x: setattr(x.graph.output[0], "name", "packed2")), "it has outputs"),
    "an input of another type": (
        changed(lambda x: setattr(x.graph.input[0].type.tensor_type, "elem_type", 7)), "it says of 'features'"),
    "an input of more channels": (
        changed(lambda x: setattr(x.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 3)), "'features'"),
    "an output of more channels": (
        changed(lambda x: setattr(x.graph.output[0].type.tensor_type.shape.dim[3], "dim_value", 64)), "'packed'"),
    "one name for two sides": (
        changed(lambda x: setattr(x.graph.input[0].type.tensor_type.shape.dim[3], "dim_param", "h8")), "'features'"),
    "an input without a shape": (
        changed(lambda x: x.graph.input[0].type.tensor_type.ClearField("shape")), "the shape of"),
    "a negative side of an input": (
        changed(lambda x: setattr(x.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", -1)), "has shape"),
}  # fmt: skip
