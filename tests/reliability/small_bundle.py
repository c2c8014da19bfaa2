"""A sound bundle of a few kilobytes, whose files are cheap to damage and to check."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from engine.bundle.bundle import WEIGHTS_FILE, Bundle, write_manifest
from engine.bundle.stages import KernelStage, ProgramSpec, SegmentStage, SplitStage
from engine.config import CountingRule, ModelConfig

# One channel of the latent, and two of the features.
SMALL = ModelConfig(features=2, map_stride=8)
RULES = {1: CountingRule(0.2, 0.4), 3: CountingRule(0.3, 0.3, least=0.8, most=1.2)}
SIZES = (8, 8, 16)
_WEIGHTS = bytes(range(50)) * 100
_FLOAT, _FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def value(name: str, kind: int, *sides: int | str) -> ValueInfoProto:
    """An input or output of a graph."""
    return helper.make_tensor_value_info(name, kind, sides)


def outside(name: str, sides: Sequence[int], **places: object) -> TensorProto:
    """Float16 values that lie in the weights file, or in another; None leaves a place out."""
    tensor = TensorProto(name=name, data_type=_FLOAT16, dims=sides, data_location=TensorProto.EXTERNAL)
    length = 2
    for side in sides:
        length *= side
    for key, place in ({"location": WEIGHTS_FILE, "offset": 0, "length": length} | places).items():
        if place is not None:
            tensor.external_data.add(key=key, value=str(place))
    return tensor


def convolution(
    read: str, made: str, weights: str, kernel: int = 1, stride: int = 1, pads: Sequence[int] = (0, 0, 0, 0)
) -> NodeProto:
    """A Conv as the exporter writes it, with the weights ``<weights>.weight`` and ``<weights>.bias``."""
    return helper.make_node(
        "Conv", [read, f"{weights}.weight", f"{weights}.bias"], [made], made, group=1, pads=pads, auto_pad="NOTSET",
        strides=[stride, stride], dilations=[1, 1], kernel_shape=[kernel, kernel],
    )  # fmt: skip


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    tensors: Sequence[TensorProto] = (),
    opset: int = 18,
) -> bytes:
    """An ONNX file."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=tensors)
    made = helper.make_model(graph, producer_name="crowd", opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 10
    return made.SerializeToString()


class _Graphs:
    """The graphs of one variant, in whose type maps pass from segment to segment."""

    def __init__(self, config: ModelConfig, sizes: tuple[int, int, int], kind: int):
        self._config, self._sizes, self._kind = config, sizes, kind
        self._nodes: list[NodeProto] = []
        self._tensors: list[TensorProto] = []

    def encoder(self) -> bytes:
        image, features = self._map("image", 3, "32*h32", "32*w32"), self._map("features", None, "4*h32", "4*w32")
        self._weights("features", self._config.features, 3, 8)
        self._nodes.append(convolution("image", "features", "features", 8, 8))
        self._weights("rate", 1, self._config.features, 1)
        self._nodes.append(convolution("features", self._narrow("rate"), "rate"))
        self._tensors.append(helper.make_tensor("places", TensorProto.INT64, [2], [2, 3]))
        self._nodes.append(
            helper.make_node("ReduceMean", ["features", "places"], ["mean"], "mean", keepdims=0, noop_with_empty_axes=0)
        )
        self._stored("signature.weight", [self._config.signature, self._config.features])
        product = ["mean", "signature.weight"], [self._narrow("signature")]
        self._nodes.append(helper.make_node("Gemm", *product, "gemm", alpha=1.0, beta=1.0, transA=0, transB=1))
        rate = value("rate", _FLOAT, "batch", 1, "4*h32", "4*w32")
        return self._model([image], [features, rate, value("signature", _FLOAT, "batch", self._config.signature)])

    def decoder(self) -> bytes:
        self._merge("x_0", self._config.latent_channels)
        return self._model(self._inputs(), [self._x_0()])

    def first(self) -> bytes:
        channels = sum(self._sizes)
        self._merge("merged", channels)
        self._nodes.append(helper.make_node("Transpose", ["merged"], ["packed"], "turn", perm=[0, 2, 3, 1]))
        packed = value("packed", self._kind, "batch", "h8", "w8", channels)
        self._nodes.append(helper.make_node("Relu", ["x_t"], ["x"], "relu"))
        return self._model(self._inputs(), [packed, self._map("x", self._config.latent_channels)])

    def second(self) -> bytes:
        channels, latent = self._sizes[2], self._config.latent_channels
        inputs = [value("attended", self._kind, "batch", "h8", "w8", channels), self._map("x", latent)]
        self._nodes.append(helper.make_node("Transpose", ["attended"], ["turned"], "turn", perm=[0, 3, 1, 2]))
        self._weights("out", latent, channels, 1)
        self._nodes.append(convolution("turned", "estimate", "out"))
        self._nodes.append(helper.make_node("Add", ["estimate", "x"], [self._narrow("x_0")], "add"))
        return self._model(inputs, [self._x_0()])

    def _merge(self, made: str, channels: int) -> None:
        self._nodes.append(helper.make_node("Concat", ["features", "x_t"], ["both"], "both", axis=1))
        self._weights("merge", channels, self._config.features + self._config.latent_channels, 1)
        self._nodes.append(convolution("both", self._narrow(made) if made == "x_0" else made, "merge"))

    def _inputs(self) -> list[ValueInfoProto]:
        maps = [self._map("features", None), self._map("x_t", self._config.latent_channels)]
        return [*maps, value("t", _FLOAT, "batch")]

    def _x_0(self) -> ValueInfoProto:
        return value("x_0", _FLOAT, "batch", self._config.latent_channels, "h8", "w8")

    def _map(self, name: str, channels: int | None, rows: str = "h8", columns: str = "w8") -> ValueInfoProto:
        return value(name, self._kind, "batch", channels or self._config.features, rows, columns)

    def _narrow(self, name: str) -> str:
        """The name under which an output that is float32 in every variant is made."""
        return name if self._kind == _FLOAT else f"{name}.narrow"

    def _weights(self, name: str, outputs: int, inputs: int, kernel: int) -> None:
        self._stored(f"{name}.weight", [outputs, inputs, kernel, kernel])
        self._stored(f"{name}.bias", [outputs])

    def _stored(self, tensor: str, sides: list[int]) -> None:
        stored = tensor if self._kind == _FLOAT16 else f"{tensor}.stored"
        self._tensors.append(outside(stored, sides))
        if stored != tensor:
            self._nodes.append(helper.make_node("Cast", [stored], [tensor], f"{tensor}.cast", to=_FLOAT))

    def _model(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> bytes:
        made = {name for node in self._nodes for name in node.output}
        for name in (x.name for x in outputs if x.name not in made):
            self._nodes.append(helper.make_node("Cast", [f"{name}.narrow"], [name], f"{name}.cast", to=_FLOAT))
        return model(self._nodes, inputs, outputs, self._tensors)


def sound_graphs(config: ModelConfig = SMALL, sizes: tuple[int, int, int] = SIZES) -> dict[str, bytes]:
    """The files of the bundle's graphs."""
    files = {}
    for end, kind in ((".onnx", _FLOAT), (".float16.onnx", _FLOAT16)):
        for name in ("encoder", "decoder", "first", "second"):
            if (name, kind) != ("decoder", _FLOAT16):
                files[name + end] = getattr(_Graphs(config, sizes, kind), name)()
    return files


def programs(sizes: tuple[int, int, int] = SIZES) -> dict[str, ProgramSpec]:
    """The bundle's programs."""
    encoder = _stage("encoder", ("image",), ("features", "rate", "signature"))
    stages = (
        _stage("first", ("features", "x_t", "t"), ("packed", "x")),
        SplitStage("packed", sizes, ("q", "k", "v")),
        KernelStage("criss_cross_attention", ("q", "k", "v"), ("attended",)),
        _stage("second", ("attended", "x"), ("x_0",)),
    )
    return {
        "encoder": ProgramSpec("encoder.onnx", encoder.inputs, encoder.outputs, (encoder,)),
        "decoder": ProgramSpec("decoder.onnx", ("features", "x_t", "t"), ("x_0",), stages),
    }


def _stage(name: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> SegmentStage:
    return SegmentStage(f"{name}.onnx", inputs, outputs, {"float16": f"{name}.float16.onnx"})


def write_small_bundle(
    folder: Path,
    replaced: dict[str, bytes] | None = None,
    *,
    config: ModelConfig = SMALL,
    sizes: tuple[int, int, int] = SIZES,
    **manifest: object,
) -> Bundle:
    """Write it.

    Args:
        replaced: files of the graphs, by name, in place of the sound ones.
        manifest: arguments of ``write_manifest`` in place of the usual ones.
    """
    folder.mkdir(exist_ok=True)
    for name, content in (sound_graphs(config, sizes) | (replaced or {})).items():
        (folder / name).write_bytes(content)
    (folder / WEIGHTS_FILE).write_bytes(_WEIGHTS)
    usual = {"name": "small", "default_steps": 3, "counting": RULES, "programs": programs(sizes)}
    return write_manifest(folder, model=config, **(usual | manifest))  # type: ignore[arg-type]


def rewrite(bundle: Bundle, **changed: object) -> Bundle:
    """Write the manifest anew, with some of its values changed."""
    fields = {x.name: getattr(bundle, x.name) for x in dataclasses.fields(bundle) if x.name not in ("path", "digest")}
    return write_manifest(bundle.path, **(fields | changed))  # type: ignore[arg-type]
