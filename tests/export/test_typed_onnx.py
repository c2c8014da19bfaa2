"""Segments in float16 and bfloat16: their types, and what they compute against the float32 ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, shape_inference

from engine.bundle.bundle import WEIGHTS_FILE, Bundle, SegmentStage, SplitStage
from engine.kernels import reference

Arrays = dict[str, np.ndarray]

ELEMENT = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
ROUND = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# Largest error of a segment relative to its output's largest value. Each tensor on the way is rounded to 11 or 8 bits,
# an error of up to 2^-12 or 2^-9 of itself; the 5 to 20 of a segment add up like a random walk, to 5 at most here.
TOLERANCE = {"float16": 8 * 2**-12, "bfloat16": 8 * 2**-9}
SIZES = [(1, 32, 32), (2, 64, 96), (1, 96, 160)]
PROGRAMS = ["encoder", "decoder"]
TYPES = ["float16", "bfloat16"]


def _segments(bundle: Bundle, program: str) -> list[SegmentStage]:
    return [x for x in bundle.programs[program].stages if isinstance(x, SegmentStage)]


def _load(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=False)


def _inferred(bundle: Bundle, file: str, folder: Path) -> onnx.ModelProto:
    """The typed file, fully checked, with the type of every tensor."""
    model = _load(bundle.path / file)
    # The first opset whose convolution takes bfloat16; nothing else that is used here changed.
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 22))
    (folder / WEIGHTS_FILE).write_bytes((bundle.path / WEIGHTS_FILE).read_bytes())
    onnx.save(model, folder / file)
    onnx.checker.check_model(str(folder / file), full_check=True)
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    types = {x.name: x.type.tensor_type.elem_type for x in (*graph.input, *graph.output, *graph.value_info)}
    return types | {x.name: x.data_type for x in graph.initializer}


@pytest.mark.parametrize("compute_type", TYPES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_types(bundle: Bundle, program: str, compute_type: str, tmp_path: Path) -> None:
    reduced = ELEMENT[compute_type]
    seen = set()
    for stage in _segments(bundle, program):
        model = _inferred(bundle, stage.typed[compute_type], tmp_path)
        types = _types(model)
        for name in (*stage.inputs, *stage.outputs):
            expected = TensorProto.FLOAT if name in ("t", "rate", "signature", "x_0") else reduced
            assert types[name] == expected, name
        for node in model.graph.node:
            seen.add(node.op_type)
            if node.op_type in ("Conv", "Resize", "Concat", "Relu") and "embed" not in node.name:
                assert types[node.input[0]] == types[node.output[0]] == reduced, node.name
            if node.op_type in ("Sin", "Cos", "Log", "Softplus", "Gemm", "Greater"):
                assert types[node.input[0]] == TensorProto.FLOAT, node.name
            # A size that becomes a number on the host would be copied at every run.
            if node.op_type == "Cast":
                assert types[node.input[0]] != TensorProto.INT64, node.name
    islands = {"encoder": {"Conv", "Log", "Softplus", "Resize"}, "decoder": {"Conv", "Log", "Sin", "Cos", "Gemm"}}
    assert islands[program] <= seen


@pytest.mark.parametrize("compute_type", TYPES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_weights_are_shared(bundle: Bundle, program: str, compute_type: str) -> None:
    for stage in _segments(bundle, program):
        spans = []
        for file in (stage.graph, stage.typed[compute_type]):
            graph = _load(bundle.path / file).graph
            spans.append({tuple(y.value for y in x.external_data) for x in graph.initializer if x.external_data})
            assert all(location == WEIGHTS_FILE for location, _, _ in spans[-1])
        assert spans[0] == spans[1] != set()


def _run(path: Path, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(list(outputs), inputs), strict=True))


def _emulated(model: onnx.ModelProto, types: dict[str, int], reduced: int) -> onnx.ModelProto:
    """The typed model in float32, with every tensor of the reduced type rounded to it."""
    graph = model.graph
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = TensorProto.FLOAT
        nodes.append(node)
        for position, name in enumerate(node.output):
            if types.get(name) == reduced:
                node.output[position] = f"{name}.exact"
                nodes.append(helper.make_node("Cast", [f"{name}.exact"], [f"{name}.rounded"], to=reduced))
                nodes.append(helper.make_node("Cast", [f"{name}.rounded"], [name], to=TensorProto.FLOAT))
    weights = [x.name for x in graph.initializer if x.data_type == TensorProto.FLOAT16]
    for node in graph.node:
        node.input[:] = [f"{x}.wide" if x in weights else x for x in node.input]
    wide = [helper.make_node("Cast", [x], [f"{x}.wide"], to=TensorProto.FLOAT) for x in weights]
    del graph.node[:], graph.value_info[:]
    graph.node.extend([*wide, *nodes])
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def _rounded(array: np.ndarray, name: str, compute_type: str) -> np.ndarray:
    return array if name == "t" else torch.from_numpy(array).to(ROUND[compute_type]).float().numpy()


def _inputs(bundle: Bundle, program: str, size: tuple[int, int, int]) -> Arrays:
    batch, height, width = size
    rng = np.random.default_rng(size)
    if program == "encoder":
        return {"image": rng.standard_normal((batch, 3, height, width), np.float32)}
    grid = height // 8, width // 8
    # Features are rectified.
    features = np.maximum(rng.standard_normal((batch, bundle.model.features, *grid), np.float32), 0)
    x_t = rng.standard_normal((batch, bundle.model.latent_channels, *grid), np.float32)
    return {"features": features, "x_t": x_t, "t": np.linspace(1, 0.3, batch, dtype=np.float32)}


def _parts(arrays: Arrays, bundle: Bundle) -> Arrays:
    """The arrays, queries apart: scaled down, they would hide behind the keys and values that they are packed with."""
    parts = {}
    for name, array in arrays.items():
        if "packed" in name:
            parts[f"{name} queries"] = array[..., : bundle.model.attention_dim]
            array = array[..., bundle.model.attention_dim :]
        parts[name] = array
    return parts


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compute_type", TYPES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_values(bundle: Bundle, program: str, compute_type: str, size: tuple[int, int, int], tmp_path: Path) -> None:
    """Each segment from the same inputs as the float32 one, which the next segment goes on from."""
    arrays = _inputs(bundle, program, size)
    for stage in bundle.programs[program].stages:
        given = {x: arrays[x] for x in stage.inputs}
        if isinstance(stage, SplitStage):
            made = dict(zip(stage.outputs, np.split(arrays[stage.input], np.cumsum(stage.sizes)[:-1], -1), strict=True))
        elif isinstance(stage, SegmentStage):
            given = {x: _rounded(y, x, compute_type) for x, y in given.items()}
            made = _run(bundle.path / stage.graph, given, stage.outputs)
            model = _inferred(bundle, stage.typed[compute_type], tmp_path)
            onnx.save(_emulated(model, _types(model), ELEMENT[compute_type]), tmp_path / "emulated.onnx")
            ours = _run(tmp_path / "emulated.onnx", given, stage.outputs)
            for name, expected in _parts(made, bundle).items():
                error = np.abs(_parts(ours, bundle)[name] - expected).max() / np.abs(expected).max()
                assert error < TOLERANCE[compute_type], name
        else:
            made = {stage.outputs[0]: reference.criss_cross_attention(*given.values()).astype(np.float32)}
        arrays.update(made)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_float16_files_run_as_they_are(bundle: Bundle, program: str, size: tuple[int, int, int]) -> None:
    """In ONNX Runtime, which has the standard's float16; of bfloat16 it has no convolution."""
    stage = _segments(bundle, program)[0]
    inputs = {x: _rounded(y, x, "float16") for x, y in _inputs(bundle, program, size).items()}
    expected = _run(bundle.path / stage.graph, inputs, stage.outputs)
    halves = {x: y if x == "t" else y.astype(np.float16) for x, y in inputs.items()}
    for name, ours in _run(bundle.path / stage.typed["float16"], halves, stage.outputs).items():
        assert ours.dtype == np.float16
        error = np.abs(ours.astype(np.float32) - expected[name]).max() / np.abs(expected[name]).max()
        assert error < TOLERANCE["float16"], name
