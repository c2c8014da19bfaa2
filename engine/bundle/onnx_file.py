"""An ONNX file read as plain bytes, before a runtime parses it.

A bundle may come from a stranger, and a runtime trusts its graphs: it would read weights from any file that they name.
So that nothing can be hidden from this reader, it knows each field that the exporter writes, by its number and its way
of writing, and refuses every other one, and every second one where there can be one. Nothing of ONNX is needed to
count. Field numbers are those of onnx.proto (ONNX 1.17).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

from engine.bundle.onnx_parts import (
    BFLOAT16,
    BOOL,
    FLOAT,
    FLOAT16,
    INT8,
    INT64,
    UINT8,
    Function,
    Node,
    OnnxFile,
    Tensor,
    Value,
)
from engine.bundle.onnx_wire import CONTENTS, FOUR_BYTES, NUMBER, WireReader, packed_numbers

# Size in bytes of the elements of each type.
_SIZES = {FLOAT: 4, UINT8: 1, INT8: 1, INT64: 8, BOOL: 1, FLOAT16: 2, BFLOAT16: 2}
_MOST_BYTES = 64 << 20
# Fields of the whole file; the largest of the shipped graphs has about 5,000.
_MOST_FIELDS = 250_000
_MOST_ELEMENTS = 1 << 28
_MOST_SIDES = 4
# A tensor with more values is data, which no check needs.
_MOST_KNOWN = 16
_MOST_TEXT = 1000
# Field number: name and kind, with a star where there may be several.
_FIELDS = {
    "model": "1 ir int, 2 maker text, 3 release text, 4 domain text, 6 doc text, 7 graph graph, 8 opsets opset*, "
    "25 functions function*",
    "opset": "1 domain text, 2 version int",
    "graph": "1 nodes node*, 2 name text, 5 tensors tensor*, 10 doc text, 11 inputs value*, 12 outputs value*, "
    "13 values value*",
    "node": "1 inputs text*, 2 outputs text*, 3 name text, 4 operator text, 5 attributes attribute*, 6 doc text, "
    "7 domain text",
    "attribute": "1 name text, 2 f float, 3 i int, 4 s text, 5 t tensor, 8 ints int*, 13 doc text, 20 type int32",
    "tensor": "1 sides int*, 2 type int32, 4 floats float*, 5 int32s int32*, 7 int64s int*, 8 name text, 9 raw bytes, "
    "12 doc text, 13 outside entry*, 14 location int32",
    "entry": "1 key text, 2 value text",
    "value": "1 name text, 2 type type, 3 doc text",
    "type": "1 tensor array",
    "array": "1 type int32, 2 shape shape",
    "shape": "1 sides side*",
    "side": "1 size int, 2 symbol text",
    "function": "1 name text, 4 inputs text*, 5 outputs text*, 7 nodes node*, 8 doc text, 9 opsets opset*, "
    "10 domain text",
}
_SCHEMAS: dict[str, dict[int, tuple[str, str, bool]]] = {
    message: {
        int(number): (name, kind.rstrip("*"), kind.endswith("*"))
        for number, name, kind in (field.split() for field in fields.split(", "))
    }
    for message, fields in _FIELDS.items()
}
# Which field of an attribute has its value, by the attribute's type.
_ATTRIBUTE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 7: "ints"}
_WAYS = {"int": NUMBER, "int32": NUMBER, "float": FOUR_BYTES}


def read_onnx(data: bytes, weights: Mapping[str, int]) -> OnnxFile:
    """Read one ONNX file.

    Args:
        weights: size in bytes of each file that the graph may take weights from, by name.

    Raises:
        ValueError: it is no ONNX file, or has something that no graph of this engine has; the message says what.
    """
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it has {len(data)} bytes, more than {_MOST_BYTES}")
    return _Reader(weights).model(memoryview(data))


class _Reader:
    def __init__(self, weights: Mapping[str, int]):
        self._weights = weights
        self._wire = WireReader(_MOST_FIELDS)
        self._kinds: dict[str, Callable[[Any], Any]] = {
            "int": _signed,
            "int32": _signed32,
            "float": lambda value: struct.unpack("<f", value)[0],
            "text": _text,
            "bytes": bytes,
            "node": self._node,
            "attribute": self._attribute,
            "tensor": self._tensor,
            "value": self._value,
            "function": self._function,
        }

    def model(self, data: memoryview) -> OnnxFile:
        model = self._message("model", data)
        if "graph" not in model:
            raise ValueError("it has no graph: this is no ONNX file")
        graph = model["graph"]
        return OnnxFile(
            opsets=_opsets(model),
            nodes=tuple(graph.get("nodes", ())),
            tensors=tuple(graph.get("tensors", ())),
            inputs=tuple(graph.get("inputs", ())),
            outputs=tuple(graph.get("outputs", ())),
            values=tuple(graph.get("values", ())),
            functions=tuple(model.get("functions", ())),
        )

    def _message(self, message: str, data: memoryview) -> dict[str, Any]:
        """The fields of a message by name; lists of those of which there may be several."""
        schema, found = _SCHEMAS[message], dict[str, Any]()
        for number, way, value in self._wire.fields(data):
            if number not in schema:
                raise ValueError(f"a {message} has field {number}, which no graph of this engine has")
            name, kind, several = schema[number]
            if way != _WAYS.get(kind, CONTENTS):
                if not (several and way == CONTENTS and kind in _WAYS):
                    raise ValueError(f"field {name} of a {message} has the wrong type")
                found.setdefault(name, []).extend(_packed(kind, value))
            elif several:
                found.setdefault(name, []).append(self._content(kind, value))
            elif name in found:
                raise ValueError(f"a {message} has field {name} twice")
            else:
                found[name] = self._content(kind, value)
        return found

    def _content(self, kind: str, value: Any) -> Any:
        read = self._kinds.get(kind)
        return read(value) if read else self._message(kind, value)

    def _node(self, data: memoryview) -> Node:
        node = self._message("node", data)
        attributes = dict(node.get("attributes", ()))
        if len(attributes) != len(node.get("attributes", ())):
            raise ValueError("an operator has an attribute twice")
        inputs, outputs = tuple(node.get("inputs", ())), tuple(node.get("outputs", ()))
        return Node(node.get("operator", ""), node.get("domain", ""), inputs, outputs, attributes)

    def _attribute(self, data: memoryview) -> tuple[str, Any]:
        attribute = self._message("attribute", data)
        value = _ATTRIBUTE_FIELDS.get(attribute.get("type", 0), "")
        others = attribute.keys() & set(_ATTRIBUTE_FIELDS.values()) - {value}
        # A list without elements has no field.
        if not value or others or (value not in attribute and value != "ints"):
            raise ValueError(f"attribute {attribute.get('name', '')!r} is of a kind that no graph of this engine has")
        content = attribute.get(value, ())
        return attribute.get("name", ""), tuple(content) if value == "ints" else content

    def _tensor(self, data: memoryview) -> Tensor:
        tensor = self._message("tensor", data)
        sides, kind = tuple(tensor.get("sides", ())), tensor.get("type", 0)
        if kind not in _SIZES:
            raise ValueError(f"a tensor has type {kind}, which no graph of this engine has")
        if len(sides) > _MOST_SIDES or any(side < 1 for side in sides) or math.prod(sides) > _MOST_ELEMENTS:
            raise ValueError(f"a tensor has shape {list(sides)[:16]}")
        elements, name = math.prod(sides), tensor.get("name", "")
        inside = [key for key in ("floats", "int32s", "int64s", "raw") if key in tensor]
        if "outside" in tensor or tensor.get("location", 0):
            if inside or tensor.get("location") != 1:
                raise ValueError("a tensor lies in the graph and in another file")
            return Tensor(name, kind, sides, None, *self._outside(tensor["outside"], elements * _SIZES[kind]))
        if len(inside) != 1:
            raise ValueError(f"a tensor has its values in {len(inside)} fields, expected one")
        return Tensor(name, kind, sides, _values(kind, elements, inside[0], tensor[inside[0]]))

    def _outside(self, entries: list[dict[str, Any]], size: int) -> tuple[str, int]:
        """File and offset of a tensor of ``size`` bytes that lies in another file."""
        outside = {entry.get("key", ""): entry.get("value", "") for entry in entries}
        if len(outside) != len(entries) or outside.keys() != {"location", "offset", "length"}:
            raise ValueError("a tensor in another file has more than one file, offset and length, or lacks one")
        location = outside["location"]
        if location not in self._weights:
            raise ValueError(f"it takes weights from {location[:80]!r}, which is none of the bundle's")
        offset, length = _size(outside["offset"]), _size(outside["length"])
        if length != size:
            raise ValueError(f"a tensor of {size} bytes takes {length} bytes of {location}")
        if offset + length > self._weights[location]:
            raise ValueError(f"it takes {length} bytes of {location} from {offset} on, behind its end")
        return location, offset

    def _value(self, data: memoryview) -> Value:
        value = self._message("value", data)
        array = value.get("type", {}).get("tensor", {})
        sides = array.get("shape", {}).get("sides", ())
        if "shape" not in array or len(sides) > _MOST_SIDES or any(len(side) > 1 for side in sides):
            raise ValueError(f"the shape of {value.get('name', '')!r} is none that a graph of this engine has")
        sizes = tuple(side.get("size", side.get("symbol", "")) for side in sides)
        if any(isinstance(size, int) and size < 1 for size in sizes):
            raise ValueError(f"{value.get('name', '')!r} has shape {list(sizes)}")
        return Value(value.get("name", ""), array.get("type", 0), sizes)

    def _function(self, data: memoryview) -> Function:
        function = self._message("function", data)
        return Function(
            name=function.get("name", ""),
            domain=function.get("domain", ""),
            inputs=tuple(function.get("inputs", ())),
            outputs=tuple(function.get("outputs", ())),
            nodes=tuple(function.get("nodes", ())),
            opsets=_opsets(function),
        )


def _opsets(message: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple((x.get("domain", ""), x.get("version", 0)) for x in message.get("opsets", ()))


def _values(kind: int, elements: int, field: str, content: Any) -> tuple[float, ...] | None:
    """The values of a tensor that lies in the graph, if they are few; it has as many as its shape says."""
    if field == "raw":
        if len(content) != elements * _SIZES[kind]:
            raise ValueError(f"a tensor of {elements} elements of type {kind} has {len(content)} bytes")
        if elements > _MOST_KNOWN or kind == BFLOAT16:
            return None
        code = {FLOAT: "f", UINT8: "B", INT8: "b", INT64: "q", BOOL: "?", FLOAT16: "e"}[kind]
        return struct.unpack(f"<{elements}{code}", content)
    expected = {FLOAT: "floats", INT64: "int64s", UINT8: "int32s", INT8: "int32s"}.get(kind)
    if field != expected or len(content) != elements:
        raise ValueError(f"a tensor of {elements} elements of type {kind} has {len(content)} {field}")
    least = {UINT8: 0, INT8: -128}.get(kind)
    if least is not None and not all(least <= value < least + 256 for value in content):
        raise ValueError("a tensor of 8 bits has larger values")
    return tuple(content) if elements <= _MOST_KNOWN else None


def _packed(kind: str, data: Any) -> list[Any]:
    """Several numbers in one field."""
    if kind == "float":
        if len(data) % 4:
            raise ValueError("a list of numbers is cut short")
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    read = _signed32 if kind == "int32" else _signed
    return [read(value) for value in packed_numbers(data)]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _signed32(value: int) -> int:
    # Other readers would drop the upper half of a larger one.
    number = _signed(value)
    if not -(1 << 31) <= number < 1 << 31:
        raise ValueError(f"it has {number} where a number of 32 bits belongs")
    return number


def _text(data: memoryview) -> str:
    if len(data) > _MOST_TEXT:
        raise ValueError(f"it has a name of {len(data)} bytes")
    text = bytes(data).decode(errors="replace")
    if not text.isprintable() or "\N{REPLACEMENT CHARACTER}" in text:
        raise ValueError(f"{text[:80]!r} is no name")
    return text


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"{text[:40]!r} is no size")
    return int(text)
