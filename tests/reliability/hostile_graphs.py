"""Graphs that a stranger could write: each is a sound one with one thing wrong, and what its refusal must say."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from reliability.graph_makers import (
    GRAPH,
    changed,
    conv,
    enlarged_again,
    field,
    floats,
    function,
    more,
    numbers,
    ones_without_number,
    outside_tensor,
    outside_twice,
    pixels_less,
    resize,
    subgraph,
    tensor,
    turned,
    varint,
    weights,
    within,
)
from reliability.small_bundle import outside, sound_graphs

_SOUND = sound_graphs()[GRAPH]
_FLOAT = TensorProto.FLOAT
# By name: the graph, and a part of the reason that its refusal gives.
HOSTILE_GRAPHS: dict[str, tuple[bytes, str]] = {
    # Files.
    "weights of another file": (outside_tensor(location="../../../etc/passwd"), "none of the bundle's"),
    "weights of an absolute path": (outside_tensor(location="/etc/passwd"), "none of the bundle's"),
    "weights of a graph": (outside_tensor(location=GRAPH), "none of the bundle's"),
    "weights behind the end": (outside_tensor(offset=4999), "behind its end"),
    "a negative offset": (outside_tensor(offset=-4), "is no size"),
    "an endless offset": (outside_tensor(offset="9" * 900), "is no size"),
    "a length of its own": (outside_tensor(length=4), "takes 4 bytes"),
    "no length": (outside_tensor(length=None), "more than one file"),
    "a second file": (outside_twice("location", "secret.bin"), "more than one file"),
    "a checksum": (outside_twice("checksum", "0"), "more than one file"),
    "a hidden key": (
        within("graph initializer.0 external_data.0", varint(1 << 3 | 1) + b"aaaaaaaa"), "field key",
    ),
    "values in two places": (
        changed(lambda x: x.graph.initializer.append(TensorProto(name="w", dims=[1], data_type=10, data_location=1,
            raw_data=b"\0\0", external_data=outside("", [1]).external_data))), "in the graph and in another file"),
    "values nowhere": (tensor(dims=[1], data_type=_FLOAT), "in 0 fields"),
    # Sizes of constants.
    "a huge tensor": (tensor(dims=[1 << 20, 1 << 20], data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "a product that wraps": (tensor(dims=[(1 << 33) + 1] * 2, data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "a negative side": (tensor(dims=[-1], data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "no elements": (tensor(dims=[0], data_type=_FLOAT, raw_data=b""), "a tensor has shape"),
    "five sides": (tensor(dims=[1] * 5, data_type=_FLOAT, raw_data=bytes(4)), "a tensor has shape"),
    "sides behind the 16th": (tensor(dims=[1] * 16 + [1 << 20], data_type=_FLOAT, raw_data=bytes(4)), "has shape"),
    "sides hidden by four bytes": (within("graph initializer.0", field(1, 0.0)), "field sides"),
    "too few bytes": (tensor(dims=[3], data_type=_FLOAT, raw_data=bytes(8)), "has 8 bytes"),
    "too few numbers": (tensor(dims=[3], data_type=_FLOAT, float_data=[1, 2]), "has 2 floats"),
    "strings": (tensor(dims=[1], data_type=8, string_data=[b"x"]), "field 6"),
    "double numbers": (tensor(dims=[1], data_type=11, raw_data=bytes(8)), "type 11"),
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
    "gathering far away": (more("GatherND", "x_t", "i", tensors=(numbers("i", 0, 0, 0, 1 << 40),)), "'GatherND'"),
    "scattering": (more("ScatterND", "x_t", "i", "x_t", tensors=(numbers("i", 1 << 27),)), "'ScatterND'"),
    "a loop": (more("Loop", "", "", "x_t"), "'Loop'"),
    "a condition": (more("If", "x_t"), "'If'"),
    "another domain": (more("Relu", "x_t", domain="com.microsoft"), "com.microsoft"),
    "an unknown kernel": (more("shell", "x_t", domain="crowd"), "'shell'"),
    "a kernel in a segment": (more("criss_cross_attention", *["x_t"] * 3, domain="crowd"), "'criss_cross_attention'"),
    "an operator without a name": (within("graph", field(1, b"")), "operator ''"),
    "a graph in an operator": (subgraph(), "field 6"),
    "a function for an operator": (changed(lambda x: function(x, "Relu", "", "Acosh")), "it has functions"),
    "a function that calls itself": (changed(lambda x: function(x, "f", "crowd", "f", "crowd")), "it has functions"),
    "another opset": (changed(lambda x: setattr(x.opset_import[0], "version", 21)), "of opsets"),
    "two opsets of one domain": (
        changed(lambda x: x.opset_import.extend([helper.make_opsetid("", 18)])), "or one twice"),
    "no opset": (changed(lambda x: x.ClearField("opset_import")), "no opset"),
    # Attributes.
    "an attribute twice": (
        changed(lambda x: x.graph.node[-2].attribute.append(helper.make_attribute("perm", [0]))), "attribute twice"),
    "shares of times": (more("Softmax", "t", axis=1), "its input is no map"),
    "a mean of times": (
        more("ReduceMean", "t", "i", tensors=(numbers("i", 2, 3),), keepdims=0, noop_with_empty_axes=0), "is no map",
    ),
    "a mean of channels": (
        more("ReduceMean", "x_t", "i", tensors=(numbers("i", 1, 2),), keepdims=0, noop_with_empty_axes=0),
        "no mean over places",
    ),
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
    "huge pads": (conv(pads=[1 << 40] * 4), "attribute 'pads'"),
    "negative pads": (conv(pads=[-1, 0, 0, 0]), "attribute 'pads'"),
    "pads as wide as the kernel": (conv(pads=[1, 0, 0, 0]), "it has pads"),
    "two pads": (conv(pads=[0, 0]), "attribute 'pads'"),
    "a stride of zero": (conv(strides=[0, 0]), "attribute 'strides'"),
    "a huge stride": (conv(strides=[1 << 62, 1]), "attribute 'strides'"),
    "a stride that does not divide": (conv(strides=[2, 2]), "a stride of 2 does not divide"),
    "a wide kernel of few weights": (conv(kernel_shape=[31, 31]), "not of the size of its kernel"),
    "dilation": (conv(dilations=[1 << 40] * 2), "attribute 'dilations'"),
    "pads of the runtime's choice": (conv(auto_pad="SAME_UPPER"), "attribute 'auto_pad'"),
    "no groups": (conv(group=0), "attribute 'group'"),
    "groups that do not divide": (conv(group=3), "3 groups of 2 channels"),
    "weights of other channels": (conv(weights(inputs=3)), "do not fit its input"),
    "a short bias": (conv((weights()[0], floats("n.bias", 1, 2))), "do not fit its input"),
    "no rank": (conv((floats("n.weight", 1), floats("n.bias", 1))), "no maps"),
    # Other operators with what they must not have.
    "ones without number": (ones_without_number(), "its length is no number of pixels"),
    "a negative number of pixels": (pixels_less(1 << 40), "something else than 1"),
    "the sum of a map": (more("ReduceSum", "x_t", keepdims=0), "neither a shape nor made of ones"),
    "enlarged without end": (resize((1, 1, 1e9, 1e9)), "its scales are"),
    "made small": (resize((1, 1, 0, 0)), "its scales are"),
    "scales that are none": (resize((1, 1, float("nan"), float("nan"))), "its scales are"),
    "more channels": (resize((1, 2, 2, 2)), "its scales are"),
    "two scales": (resize((2, 2)), "its scales are"),
    "enlarged again and again": (enlarged_again(), "more places than the picture"),
    "another way to enlarge": (resize(mode="cubic"), "attribute 'mode'"),
    "cut far away": (more("Split", "features", "n", tensors=(numbers("n", 1 << 40, 2 - (1 << 40)),), axis=1,
                          outputs=["a", "b"]), "it cuts 2 channels"),
    "cut into more than there is": (more("Split", "features", "n", tensors=(numbers("n", 2, 2),), axis=1,
                                         outputs=["a", "b"]), "it cuts 2 channels"),
    "cut into too many names": (more("Split", "features", axis=1, num_outputs=2, outputs=["a"]), "has 1 outputs"),
    "cut along the columns": (more("Split", "features", axis=3, num_outputs=2, outputs=["a", "b"]), "no fixed size"),
    "axes far away": (more("Unsqueeze", "t", "n", tensors=(numbers("n", 1 << 40),)), "its axes are"),
    "an axis twice": (more("Unsqueeze", "t", "n", tensors=(numbers("n", 1, 1),)), "its axes are"),
    "axes that come from a picture": (more("Unsqueeze", "t", "x_t"), "no list of constants of type 7"),
    "another shape": (more("Reshape", "x_t", "n", tensors=(numbers("n", -1, 1 << 40),)), "no number of pixels"),
    "steps of no size": (
        more("QuantizeLinear", "x_t", "s", "z", tensors=(numpy_helper.from_array(np.float32(0), "s"),
             numpy_helper.from_array(np.int8(0), "z"))), "no size of steps"),
    "a zero of another type": (
        more("DequantizeLinear", "w8", "s", "z", tensors=(numpy_helper.from_array(np.zeros((2, 2), np.int8), "w8"),
             numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.uint8(0), "z"))), "another type"),
    "uint8 weights": (
        more("DequantizeLinear", "w8", "s", axis=0, tensors=(numpy_helper.from_array(np.zeros((2, 2), np.uint8), "w8"),
             floats("s", 1, 1))), "has type 2"),
    "a uint8 zero that is none": (
        more("QuantizeLinear", "x_t", "s", "z", tensors=(numpy_helper.from_array(np.float32(1), "s"),
             numpy_helper.from_array(np.uint8(1), "z"))), "its zero is not 0"),
    "a scale for each of other channels": (
        more("DequantizeLinear", "w8", "s", axis=0, tensors=(numpy_helper.from_array(np.zeros((2, 2), np.int8), "w8"),
             floats("s", 1, 1, 1))), "scales do not fit"),
    "scales along a far axis": (
        more("DequantizeLinear", "w8", "s", axis=9, tensors=(numpy_helper.from_array(np.zeros((2, 2), np.int8), "w8"),
             floats("s", 1, 1))), "attribute 'axis'"),
    "limits the wrong way round": (
        more("Clip", "x_t", "l", "h", tensors=(numpy_helper.from_array(np.float32(6), "l"),
             numpy_helper.from_array(np.float32(0), "h"))), "its limits are"),
    "limits from a picture": (more("Clip", "x_t", "x_t", "x_t"), "its limits are no numbers"),
    "a product of maps": (more("Gemm", "x_t", "x_t", "x_t", alpha=1.0, beta=1.0, transA=0, transB=1), "no matrices"),
    "maps of other sizes": (more("Add", "features", "x_t2", tensors=(floats("x_t2", 1, 2, 3),)), "different sizes"),
    "rows for columns": (turned(), "different sizes"),
    "other types": (more("Add", "x_t", "n", tensors=(numbers("n", 1),)), "have types"),
    "whole numbers": (more("Relu", "n", tensors=(numbers("n", 1),)), "has type 7"),
    "channels without number": (
        conv(weights(outputs=5000)), "5000 channels"),
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
