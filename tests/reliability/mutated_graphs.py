"""Damaged ONNX files, most of them still well-formed messages, and what the package ``onnx`` reads of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from reliability.mutations import mutate

from engine.bundle.onnx_parts import Function, Node, OnnxFile, Tensor, Value

# One field as it is written: number, way of writing, and its number or contents.
Field = tuple[int, int, "int | bytes"]
_HOSTILE = (
    0,
    1,
    2,
    3,
    7,
    10,
    16,
    17,
    127,
    128,
    255,
    1 << 31,
    (1 << 32) + 1,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    2**64 - 1,
)
_TEXTS = (b"x_t", b"Acosh", b"location", b"offset", b"weights.safetensors", b"secret.bin", b"64", b"\x01\x02", b"")
_SIZES = {1: 8, 5: 4}


def damage(sound: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """A damaged copy of one of the files: in one of five, of its bytes; else of the fields of its messages."""
    data = sound[int(rng.integers(len(sound)))]
    if rng.random() < 0.2:
        return mutate(data, rng, sound[0])
    for _ in range(int(rng.integers(1, 4))):
        data = _damaged_message(data, onnx.ModelProto.DESCRIPTOR, rng)
    return data


def read_by_onnx(data: bytes) -> OnnxFile:
    """What the package reads of a file, in the form in which the engine reads it.

    Raises:
        Exception: it cannot be read.
    """
    model = onnx.load_from_string(data)
    _check_nothing_unknown(model)
    return OnnxFile(
        opsets=tuple((x.domain, x.version) for x in model.opset_import),
        nodes=_nodes(model.graph.node),
        tensors=tuple(map(_tensor, model.graph.initializer)),
        inputs=tuple(map(_value, model.graph.input)),
        outputs=tuple(map(_value, model.graph.output)),
        values=tuple(map(_value, model.graph.value_info)),
        functions=tuple(
            Function(
                x.name, x.domain, tuple(x.input), tuple(x.output), _nodes(x.node),
                tuple((y.domain, y.version) for y in x.opset_import),
            )
            for x in model.functions
        ),
    )  # fmt: skip


def _nodes(nodes: Sequence[NodeProto]) -> tuple[Node, ...]:
    return tuple(
        Node(x.op_type, x.domain, tuple(x.input), tuple(x.output), {y.name: _attribute(y) for y in x.attribute})
        for x in nodes
    )


def _attribute(attribute: onnx.AttributeProto) -> object:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return _tensor(value)
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if attribute.type == onnx.AttributeProto.INTS else value


def _tensor(tensor: TensorProto) -> Tensor:
    sides, values, file, offset = tuple(tensor.dims), None, "", 0
    if tensor.data_location == TensorProto.EXTERNAL:
        places = onnx.external_data_helper.ExternalDataInfo(tensor)
        file, offset = places.location, places.offset or 0
    else:
        # Reads all values, of which there must be as many as the shape says.
        array = numpy_helper.to_array(tensor)
        if array.size <= 16 and tensor.data_type != TensorProto.BFLOAT16:
            values = tuple(array.ravel().tolist())
    return Tensor(tensor.name, tensor.data_type, sides, values, file, offset)


def _value(value: ValueInfoProto) -> Value:
    sides = (getattr(x, x.WhichOneof("value") or "dim_param") for x in value.type.tensor_type.shape.dim)
    return Value(value.name, value.type.tensor_type.elem_type, tuple(sides))


def _check_nothing_unknown(message: Message) -> None:
    """The package itself read every field of the file."""
    assert len(UnknownFieldSet(message)) == 0, "a field that onnx does not know was let through"
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for child in value if isinstance(value, Sequence) or hasattr(value, "add") else [value]:
                _check_nothing_unknown(child)


def _damaged_message(data: bytes, descriptor: object, rng: np.random.Generator) -> bytes:
    """Change the fields of one message, or go into one of those that it holds."""
    fields = _fields(data)
    if fields is None:
        return data
    known = {x.number: x for x in descriptor.fields}  # type: ignore[attr-defined]
    inner = [
        i for i, (number, way, _) in enumerate(fields) if way == 2 and number in known and known[number].message_type
    ]
    if inner and rng.random() < 0.8:
        at = int(rng.choice(inner))
        number, way, content = fields[at]
        assert isinstance(content, bytes)
        fields[at] = number, way, _damaged_message(content, known[number].message_type, rng)
    else:
        _CHANGES[int(rng.integers(len(_CHANGES)))](fields, sorted(known), rng)
    return b"".join(map(_written, fields))


def _fields(data: bytes) -> list[Field] | None:
    fields: list[Field] = []
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        way = key & 7
        if way == 0:
            value, at = _number(data, at)
            fields.append((key >> 3, way, value))
            continue
        size, at = _number(data, at) if way == 2 else (_SIZES.get(way, -1), at)
        if size < 0 or at + size > len(data):
            return None
        fields.append((key >> 3, way, data[at : at + size]))
        at += size
    return fields


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            break
    return value, at


def _written(field: Field) -> bytes:
    number, way, content = field
    key = _varint(number << 3 | way)
    if isinstance(content, int):
        return key + _varint(content)
    return key + (_varint(len(content)) if way == 2 else b"") + content


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def _content(way: int, rng: np.random.Generator) -> int | bytes:
    if way == 0:
        return int(_HOSTILE[int(rng.integers(len(_HOSTILE)))])
    if way == 2 and rng.random() < 0.5:
        texts = (
            b"x_t",
            b"Acosh",
            b"location",
            b"offset",
            b"weights.safetensors",
            b"secret.bin",
            b"64",
            b"\x01\x02",
            b"",
        )
        return texts[int(rng.integers(len(texts)))]
    return rng.bytes(_SIZES.get(way, int(rng.integers(0, 9))))


def _at(fields: list[Field], rng: np.random.Generator) -> int:
    return int(rng.integers(len(fields) + 1))


def _insert(fields: list[Field], known: list[int], rng: np.random.Generator) -> None:
    number = int(rng.choice(known)) if rng.random() < 0.9 else int(rng.integers(1, 40))
    way = int(rng.choice([0, 0, 1, 2, 2, 2, 5]))
    fields.insert(_at(fields, rng), (number, way, _content(way, rng)))


def _repeat(fields: list[Field], known: list[int], rng: np.random.Generator) -> None:
    if fields:
        number, way, content = fields[int(rng.integers(len(fields)))]
        fields.insert(_at(fields, rng), (number, way, content if rng.random() < 0.5 else _content(way, rng)))


def _replace(fields: list[Field], known: list[int], rng: np.random.Generator) -> None:
    if fields:
        at = int(rng.integers(len(fields)))
        number, way, _ = fields[at]
        fields[at] = number, way, _content(way, rng)


def _rewrite(fields: list[Field], known: list[int], rng: np.random.Generator) -> None:
    """Write a field in another way: a number as a list of one, or with contents of its own."""
    if fields:
        at = int(rng.integers(len(fields)))
        number, way, content = fields[at]
        if way == 0 and rng.random() < 0.7:
            assert isinstance(content, int)
            fields[at] = number, 2, _varint(content)
        else:
            way = int(rng.choice([0, 1, 2, 5]))
            fields[at] = number, way, _content(way, rng)


def _remove(fields: list[Field], known: list[int], rng: np.random.Generator) -> None:
    if fields:
        del fields[int(rng.integers(len(fields)))]


def _swap(fields: list[Field], known: list[int], rng: np.random.Generator) -> None:
    if fields:
        fields.insert(_at(fields[1:], rng), fields.pop(int(rng.integers(len(fields)))))


_CHANGES: tuple[Callable[[list[Field], list[int], np.random.Generator], None], ...] = (
    *(_insert, _insert, _repeat, _replace, _rewrite, _remove, _swap),
)
