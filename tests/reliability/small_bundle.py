"""A bundle of a few hundred bytes, whose files are cheap to damage and to check."""

from __future__ import annotations

from pathlib import Path

from engine.bundle.bundle import (
    WEIGHTS_FILE,
    Bundle,
    KernelStage,
    ProgramSpec,
    SegmentStage,
    SplitStage,
    write_manifest,
)
from engine.config import CountingRule, ModelConfig

_WEIGHTS = 1000


def field(number: int, content: bytes | int) -> bytes:
    """One field of a Protocol Buffers message."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def node(operator: bytes = b"Relu", domain: bytes = b"", attribute: bytes = b"") -> bytes:
    """A NodeProto."""
    parts = field(1, b"x") + field(2, b"y") + field(4, operator) + field(7, domain)
    return parts + (field(5, attribute) if attribute else b"")


def tensor(
    location: str = WEIGHTS_FILE, offset: object = 0, length: object = 4, sides: tuple[int, ...] = (1,)
) -> bytes:
    """A TensorProto whose values lie in another file."""
    texts = {"location": location, "offset": str(offset), "length": str(length)}
    outside = b"".join(field(13, field(1, k.encode()) + field(2, v.encode())) for k, v in texts.items())
    return b"".join(field(1, side) for side in sides) + field(2, 1) + field(8, b"w") + outside + field(14, 1)


def graph(*parts: bytes) -> bytes:
    """A ModelProto around a GraphProto of these fields; one node and one tensor if there are none."""
    return field(1, 10) + field(7, b"".join(parts or (field(1, node()), field(5, tensor()))))


def write_small_bundle(folder: Path, **graphs: bytes) -> Bundle:
    """Write it; ``graphs`` replace ``whole``, ``first`` and ``second``."""
    folder.mkdir(exist_ok=True)
    for name in ("whole", "first", "second"):
        (folder / f"{name}.onnx").write_bytes(graphs.get(name, graph()))
    (folder / WEIGHTS_FILE).write_bytes(bytes(range(250)) * (_WEIGHTS // 250))
    encoder = SegmentStage("whole.onnx", ("image",), ("features", "density"))
    stages = (
        SegmentStage("first.onnx", ("features", "x_t", "t"), ("packed", "x")),
        SplitStage("packed", (8, 8, 16), ("q", "k", "v")),
        KernelStage("criss_cross_attention", ("q", "k", "v"), ("attended",)),
        SegmentStage("second.onnx", ("attended", "x"), ("x_0",), {"float16": "second.onnx"}),
    )
    return write_manifest(
        folder,
        name="small",
        model=ModelConfig(),
        default_steps=3,
        counting={1: CountingRule(0.2, 0.4), 3: CountingRule(0.3, 0.3, 0.8, 1.2)},
        programs={
            "encoder": ProgramSpec("whole.onnx", encoder.inputs, encoder.outputs, (encoder,)),
            "decoder": ProgramSpec("whole.onnx", ("features", "x_t", "t"), ("x_0",), stages),
        },
    )
