"""An ONNX file read as plain bytes, before a runtime parses it: which operators it has, and what it points to.

A bundle may come from a stranger, and a runtime trusts its graphs: it would read weights from any file that they
name, and run any loop. The reader knows no more of Protocol Buffers than their wire format, so that nothing of ONNX
is needed to count. Field numbers are those of onnx.proto (ONNX 1.17).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

# Arithmetic, shapes, and quantisation: enough for every graph of this engine, and no control flow, no sequences, no
# strings, nothing with a graph inside.
_NAMES = """
    Abs Add And AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape Conv
    ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand
    Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax MatMul MatMulInteger ConvInteger Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad
    Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum
    Relu Reshape Resize Round ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
_OPERATORS = frozenset(_NAMES.split())
_STANDARD = (b"", b"ai.onnx")
_OURS = b"crowd"
_MOST_BYTES = 64 << 20
# Of the whole file; the largest of the shipped graphs has about 5,000.
_MOST_FIELDS = 250_000
_MOST_ELEMENTS = 1 << 28

_Field = tuple[int, "int | memoryview"]


class GraphChecker:
    """Checks the graphs of one bundle.

    Args:
        weights: size in bytes of each file that a graph may take weights from, by name.
        kernels: operators of domain ``crowd``.
    """

    def __init__(self, weights: Mapping[str, int], kernels: tuple[str, ...]):
        self._weights, self._kernels = weights, kernels
        self._fields = 0

    def check(self, data: bytes) -> None:
        """Look at everything in one ONNX file.

        Raises:
            ValueError: it is no ONNX file, or has something that no graph of this engine has; the message says what.
        """
        if len(data) > _MOST_BYTES:
            raise ValueError(f"it has {len(data)} bytes, more than {_MOST_BYTES}")
        self._fields = 0
        graphs = 0
        for number, value in self._read(memoryview(data)):
            if number == 7:
                graphs += 1
                self._check_graph(_message(value))
            elif number == 25:
                self._check_function(_message(value))
            elif number == 20:
                raise ValueError("it has training information")
        if graphs != 1:
            raise ValueError(f"it has {graphs} graphs, expected one: this is no ONNX file")

    def _check_graph(self, graph: memoryview) -> None:
        for number, value in self._read(graph):
            if number == 1:
                self._check_node(_message(value), ours=True)
            elif number == 5:
                self._check_tensor(_message(value))
            elif number == 15:
                raise ValueError("it has sparse weights")

    def _check_function(self, function: memoryview) -> None:
        for number, value in self._read(function):
            if number == 7:
                # A function that calls functions could call itself.
                self._check_node(_message(value), ours=False)
            elif number == 11:
                self._check_attribute(_message(value))

    def _check_node(self, node: memoryview, ours: bool) -> None:
        operator, domain = b"", b""
        for number, value in self._read(node):
            if number == 4:
                operator = bytes(_message(value))
            elif number == 7:
                domain = bytes(_message(value))
            elif number == 5:
                self._check_attribute(_message(value))
        name = operator[:80].decode(errors="replace")
        known = name in _OPERATORS if domain in _STANDARD else ours and domain == _OURS and name in self._kernels
        if not known:
            raise ValueError(f"operator {name!r} of domain {domain[:80]!r} is none that this engine's graphs have")

    def _check_attribute(self, attribute: memoryview) -> None:
        for number, value in self._read(attribute):
            if number in (5, 10):
                self._check_tensor(_message(value))
            elif number in (6, 11, 22, 23):
                raise ValueError("an operator has a graph or sparse weights inside")

    def _check_tensor(self, tensor: memoryview) -> None:
        sides: list[int] = []
        outside: dict[str, str] = {}
        for number, value in self._read(tensor):
            if number == 1:
                sides += [value] if isinstance(value, int) else _packed(value)
            elif number == 13:
                texts = {key: bytes(_message(text)) for key, text in self._read(_message(value))}
                outside[texts.get(1, b"").decode()] = texts.get(2, b"").decode()
        if math.prod(sides) > _MOST_ELEMENTS:
            raise ValueError(f"a tensor has shape {sides}")
        if outside:
            self._check_outside(outside)

    def _check_outside(self, outside: dict[str, str]) -> None:
        location = outside.get("location", "")
        if location not in self._weights:
            raise ValueError(f"it takes weights from {location!r}, which is none of the bundle's")
        offset, length = _size(outside.get("offset", "0")), _size(outside.get("length", "0"))
        if offset + length > self._weights[location]:
            raise ValueError(f"it takes {length} bytes of {location} from {offset} on, behind its end")

    def _read(self, data: memoryview) -> Iterator[_Field]:
        """The fields of one message: their numbers, and integers or contents."""
        at = 0
        while at < len(data):
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise ValueError(f"it has more than {_MOST_FIELDS} fields")
            key, at = _varint(data, at)
            kind = key & 7
            if kind == 0:
                value, at = _varint(data, at)
                yield key >> 3, value
                continue
            size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
            if size < 0 or at + size > len(data):
                raise ValueError("it is cut short, or no ONNX file")
            yield key >> 3, data[at : at + size]
            at += size


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a field has the wrong type")
    return value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is cut short, or no ONNX file")


def _packed(data: memoryview) -> list[int]:
    values: list[int] = []
    at = 0
    while at < len(data) and len(values) < 16:
        value, at = _varint(data, at)
        values.append(value)
    return values


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"{text[:40]!r} is no size")
    return int(text)
