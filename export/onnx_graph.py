"""The network's two halves as ONNX graphs with dynamic batch, height and width."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn
from torch.export import Dim

from engine.config import FEATURE_STRIDE, PADDING
from engine.errors import is_interrupt
from engine.export.attention_function import DOMAIN, DOMAIN_VERSION, KERNEL, OPSET, attention_function, translations
from engine.model.network import CrowdNetwork

# Batch, height and width of the traced example; any will do that differ and exceed 1.
_BATCH, _HEIGHT, _WIDTH = 2, 2 * PADDING, 3 * PADDING
_SCOPES = "pkg.torch.onnx.name_scopes"


def trace_encoder(network: CrowdNetwork) -> onnx.ModelProto:
    """image [B, 3, H, W] -> features [B, F, H/8, W/8], rate [B, 1, H/8, W/8], signature [B, S].

    H and W are multiples of 32.
    """
    image = torch.zeros(_BATCH, 3, _HEIGHT, _WIDTH)
    rows, columns = Dim("h32"), Dim("w32")
    shapes = [{0: Dim("batch"), 2: PADDING * rows, 3: PADDING * columns}]
    return _trace(network.encoder, {"image": image}, shapes, ["features", "rate", "signature"])


def trace_decoder(network: CrowdNetwork) -> onnx.ModelProto:
    """features [B, F, h, w], x_t [B, L, h, w], t [B] -> x_0 [B, L, h, w]."""
    config = network.config
    size = _HEIGHT // FEATURE_STRIDE, _WIDTH // FEATURE_STRIDE
    inputs = {
        "features": torch.zeros(_BATCH, config.features, *size),
        "x_t": torch.zeros(_BATCH, config.latent_channels, *size),
        "t": torch.zeros(_BATCH),
    }
    batch = Dim("batch")
    maps = {0: batch, 2: Dim("h8"), 3: Dim("w8")}
    return _trace(network.decoder, inputs, [maps, maps, {0: batch}], ["x_0"])


def _trace(
    module: nn.Module, inputs: dict[str, torch.Tensor], shapes: list[dict[int, Any]], outputs: list[str]
) -> onnx.ModelProto:
    # Else every export says that torchvision, which is not used, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # The exporter warns that two inputs share a dimension, which is meant.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                custom_translation_table=translations(),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=tuple(shapes),
            )
        except Exception as error:
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            raise
    assert program is not None
    model = program.model_proto
    symbols = _symbols(program.exported_program, shapes)
    _name_nodes(model.graph)
    _strip(model, symbols)
    model.functions.append(attention_function())
    return model


def _symbols(exported: Any, shapes: list[dict[int, Any]]) -> dict[str, str]:
    """Names of the tracer's symbols, such as s39 -> h32, from the shapes of the inputs."""
    values = [node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"][-len(shapes) :]
    names = {}
    for value, dims in zip(values, shapes, strict=True):
        for axis, dim in dims.items():
            symbol = re.search(r"s\d+", str(value.shape[axis]))
            assert symbol, f"axis {axis} became {value.shape[axis]} in the trace"
            names[symbol.group()] = re.sub(r"\d+\*", "", dim.__name__)
    return names


def _strip(model: onnx.ModelProto, symbols: dict[str, str]) -> None:
    """Drop what names the machine or the tracer; keep types and shapes."""
    graph = model.graph
    model.producer_name, model.producer_version, model.doc_string = "crowd", "", ""
    del model.metadata_props[:], graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.value_info, *graph.input, *graph.output):
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"s\d+", lambda match: symbols[match.group()], dim.dim_param)
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)])


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Name nodes and tensors by the module they come from, such as stride4.1.first.conv."""
    fixed = {value.name for value in (*graph.input, *graph.output)} | {x.name for x in graph.initializer}
    taken = set(fixed)
    renamed: dict[str, str] = {}
    producers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == KERNEL:
            _name_attention(node, producers[node.input[0]], renamed, taken)
    for node in graph.node:
        scope = _scope(node)
        node.name = _unique(f"{scope}.{node.op_type.lower()}" if scope else node.op_type.lower(), taken)
        for output in node.output:
            if output not in fixed and output not in renamed:
                renamed[output] = node.name if len(node.output) == 1 else _unique(f"{node.name}.out", taken)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.value_info:
        value.name = renamed.get(value.name, value.name)


def _name_attention(node: onnx.NodeProto, split: onnx.NodeProto, renamed: dict[str, str], taken: set[str]) -> None:
    scope = _scope(node)
    names = [*zip(node.input, ("q", "k", "v"), strict=True), (node.output[0], "attended"), (split.input[0], "packed")]
    for old, new in names:
        renamed[old] = _unique(f"{scope}.{new}", taken)


def _scope(node: onnx.NodeProto) -> str:
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            # A list such as ['', 'stride2', 'stride2.0', 'conv2d']: modules, then the traced call.
            return re.findall(r"'([^']*)'", entry.value)[-2]
    return ""


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    return candidate
