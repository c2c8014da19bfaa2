"""The weights of a bundle: one float16 safetensors file that every ONNX file of it points into."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from torch import nn

from engine.bundle.bundle import WEIGHTS_FILE

# Larger constants must be weights: they would be stored once in every graph that uses them.
_INLINE_BYTES = 4096


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the state dict of ``module``, whose values are float16 numbers, as float16."""
    save_file({name: x.numpy().astype(np.float16) for name, x in module.state_dict().items()}, path)


def weight_spans(path: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor of a safetensors file lies: name -> (offset from the start of the file, bytes)."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: (start + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def point_into_weights(model: onnx.ModelProto, prefix: str, spans: dict[str, tuple[int, int]]) -> None:
    """Replace the weights inside ``model`` by float16 external data and a Cast to float32, in place.

    Args:
        model: a graph whose initialisers carry names of the module that was traced.
        prefix: of these names in the weights file, such as ``"encoder."``.
        spans: of the weights file, as :func:`weight_spans` gives them.
    """
    casts = []
    for tensor in model.graph.initializer:
        if prefix + tensor.name not in spans:
            size = numpy_helper.to_array(tensor).nbytes
            assert size <= _INLINE_BYTES, f"{tensor.name}: a constant of {size} bytes that is not a weight"
            continue
        name = tensor.name
        tensor.CopyFrom(external(prefix + name, list(tensor.dims), spans[prefix + name]))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.float32", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def external(
    name: str,
    dims: Iterable[int],
    span: tuple[int, int],
    data_type: int = TensorProto.FLOAT16,
    file: str = WEIGHTS_FILE,
) -> TensorProto:
    """An initialiser of shape ``dims`` whose data lies at ``span`` of a file of the bundle."""
    tensor = TensorProto(name=name, dims=dims, data_type=data_type)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", str(span[0])), ("length", str(span[1]))):
        tensor.external_data.add(key=key, value=value)
    return tensor
