"""The table of operators that a bundle may have, against what the exporter writes: neither has more than the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper

from engine.bundle.bundle import Bundle
from engine.bundle.graph_check import body_digest
from engine.bundle.graph_operators import ATTENTION_BODY, KERNEL_OPERATORS, OPERATORS, OPSETS, OURS, REQUIRED, STANDARD
from engine.bundle.onnx_file import read_onnx
from engine.config import ModelConfig
from engine.export.attention_function import DOMAIN, DOMAIN_VERSION, KERNEL, OPSET
from engine.export.checkpoint import prepare
from engine.export.onnx_graph import trace_decoder, trace_encoder
from engine.export.partition import partition
from engine.export.typed_onnx import typed_segment
from engine.model.network import CrowdNetwork

UNTRAINED = ModelConfig(
    trunk="efficientnet_lite0", neck=32, count_bins=(1, 2, 5.5), features=32, attention_dim=8, decoder_width=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def untrained() -> list[onnx.ModelProto]:
    """Graphs of a network with a trunk and a rate of classes; its biases are zeros, which the exporter leaves out."""
    torch.manual_seed(0)
    network = prepare(CrowdNetwork(UNTRAINED).eval())
    wholes = [trace_encoder(network), trace_decoder(network)]
    # The bundle writer keeps weights in a file of float16, behind Casts; here they are in the graph.
    segments = [x for whole in wholes for x in partition(whole, "program").graphs.values()]
    return [*wholes, *segments, *(typed_segment(x, "float16") for x in segments)]


@pytest.fixture(scope="module")
def exported(bundle: Bundle, quantized: Bundle, untrained: list[onnx.ModelProto]) -> list[onnx.ModelProto]:
    """Every graph of two bundles, and those of a network with a trunk."""
    files = {file for folder in (bundle.path, quantized.path) for file in folder.glob("*.onnx")}
    models = [onnx.load(file, load_external_data=False) for file in sorted(files)]
    assert len(models) > 20
    return [*models, *untrained]


def _nodes(models: Iterable[onnx.ModelProto], domain: str) -> Iterator[NodeProto]:
    return (node for model in models for node in model.graph.node if node.domain == domain)


def test_the_operators_of_the_table_are_those_that_are_written(exported: list[onnx.ModelProto]) -> None:
    assert {node.op_type for node in _nodes(exported, STANDARD)} == set(OPERATORS)
    assert {node.op_type for node in _nodes(exported, OURS)} == set(KERNEL_OPERATORS) == {KERNEL}


def test_their_attributes_are_those_that_are_written(exported: list[onnx.ModelProto]) -> None:
    written: dict[tuple[str, str], list[Any]] = defaultdict(list)
    lacking: set[tuple[str, str]] = set()
    for node in _nodes(exported, STANDARD):
        attributes = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        for name, value in attributes.items():
            written[node.op_type, name].append(value)
        lacking |= {(node.op_type, name) for name in OPERATORS[node.op_type].attributes if name not in attributes}
    table = {(operator, name): x for operator, entry in OPERATORS.items() for name, x in entry.attributes.items()}
    assert set(written) == set(table)
    # Those that may be left out are those that the exporter leaves out, or that every reader of ONNX adds.
    assert {key for key, x in table.items() if x.default is not REQUIRED} >= lacking
    assert {key for key, x in table.items() if x.default is not REQUIRED} - lacking == {("Conv", "auto_pad")}
    for key, attribute in table.items():
        values = [_plain(value) for value in written[key]]
        assert all(attribute.allows(value) or isinstance(value, TensorProto) for value in values), key
        unused = [x for x in attribute.choices if x not in values]
        assert not unused, f"{key} may be {unused}, which the exporter never writes"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, list) else value


def test_their_numbers_of_inputs_are_those_that_are_written(exported: list[onnx.ModelProto]) -> None:
    numbers: dict[str, set[int]] = defaultdict(set)
    left_out: dict[str, set[int]] = defaultdict(set)
    for node in _nodes(exported, STANDARD):
        numbers[node.op_type].add(len(node.input))
        left_out[node.op_type] |= {index for index, name in enumerate(node.input) if not name}
    for name, operator in OPERATORS.items():
        if name == "Concat":
            # As many as a pyramid has stages.
            assert numbers[name] <= set(operator.inputs)
        else:
            assert numbers[name] == set(operator.inputs), name
        assert left_out[name] == operator.left_out, name


def test_opsets_and_the_body_of_attention(bundle: Bundle) -> None:
    assert OPSETS == {STANDARD: OPSET, OURS: DOMAIN_VERSION}
    assert (STANDARD, OURS) == ("", DOMAIN)
    for name in ("encoder", "decoder"):
        data = (bundle.path / f"{name}.onnx").read_bytes()
        (function,) = read_onnx(data, {"weights.safetensors": 1 << 40}).functions
        assert body_digest(function) == ATTENTION_BODY


def test_every_type_is_written(exported: list[onnx.ModelProto], tmp_path: Path) -> None:
    types = {x.data_type for model in exported for x in model.graph.initializer}
    types |= {x.type.tensor_type.elem_type for model in exported for x in (*model.graph.input, *model.graph.output)}
    kinds = ("FLOAT", "FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT64", "BOOL")
    assert types == {TensorProto.DataType.Value(kind) for kind in kinds}
