"""What is done to a segment before it is compiled changes neither its values nor its names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from engine.backends.openvino.graph import keep_layout_at_scales, lay_channels_last, read_segment

PUBLIC = {"x_t", "x_0"}
HEIGHT, WIDTH = 6, 10
# Float32 and the same arithmetic, in another order.
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def _weights(*shape: int) -> ov.Node:
    return ops.constant(np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32))


def _convolution(x: ov.Node, inputs: int, outputs: int, kernel: int) -> ov.Node:
    pads = [kernel // 2] * 2
    return ops.convolution(x, _weights(outputs, inputs, kernel, kernel), [1, 1], pads, pads, [1, 1])


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A block as behind an attention: residual, scale of each channel, concatenation, and outputs of every kind."""
    a = ops.parameter([-1, 8, -1, -1], ov.Type.f32, name="a")
    attended = ops.parameter([-1, -1, -1, 8], ov.Type.f32, name="attended")
    scale = ops.parameter([-1, 8, 1, 1], ov.Type.f32, name="scale")
    x_t = ops.parameter([-1, 4, -1, -1], ov.Type.f32, name="x_t")
    added = ops.add(a, ops.multiply(ops.transpose(attended, [0, 3, 1, 2]), ops.constant(np.float32(0.5))))
    shifted = ops.add(ops.multiply(ops.relu(added), scale), _weights(8, 1, 1))
    scaled = ops.multiply(_convolution(shifted, 8, 8, 3), ops.sigmoid(scale))
    scaled.set_friendly_name("scaled")
    block = ops.add(added, scaled)
    joined = ops.relu(ops.concat([added, x_t], 1))
    packed = ops.transpose(_convolution(joined, 12, 16, 1), [0, 2, 3, 1])
    outputs = {"added": added, "block": block, "packed": packed, "x_0": ops.subtract(joined, _weights(1, 12, 1, 1))}
    for name, node in outputs.items():
        node.output(0).set_names({name})
    parameters = [a, attended, scale, x_t]
    for node in parameters:
        node.output(0).set_names({node.get_friendly_name()})
    file = tmp_path_factory.mktemp("segment") / "segment.xml"
    ov.save_model(ov.Model(list(outputs.values()), parameters, "segment"), file, compress_to_fp16=False)
    return file


def _compiled(model: ov.Model) -> ov.CompiledModel:
    return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})


def _run(model: ov.Model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    compiled = _compiled(model)
    outputs = compiled({name: inputs[name] for name in inputs})
    return {port.any_name: np.array(outputs[port]) for port in compiled.outputs}


def _inputs() -> dict[str, np.ndarray]:
    shapes = {
        "a": (1, 8, HEIGHT, WIDTH), "attended": (1, HEIGHT, WIDTH, 8), "scale": (1, 8, 1, 1),
        "x_t": (1, 4, HEIGHT, WIDTH),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("fixed", [True, False])
def test_channels_last_is_a_matter_of_the_borders_alone(segment: Path, fixed: bool) -> None:
    expected = _run(ov.Core().read_model(segment), _inputs())
    model = read_segment(ov.Core(), segment, PUBLIC, ov.Type.f32)
    lay_channels_last(model, PUBLIC)
    turned = _inputs() | {"a": np.ascontiguousarray(_inputs()["a"].transpose(0, 2, 3, 1))}
    if fixed:
        model.reshape({name: list(x.shape) for name, x in turned.items()})
    ours = _run(model, turned)
    assert ours.keys() == expected.keys() == {"added", "block", "packed", "x_0"}
    for name, x in expected.items():
        back = ours[name].transpose(0, 3, 1, 2) if name in {"added", "block"} else ours[name]
        np.testing.assert_allclose(back, x, **TOLERANCE)


def test_computed_scales_leave_a_map_in_the_layout_of_its_convolution(segment: Path) -> None:
    model = read_segment(ov.Core(), segment, PUBLIC, ov.Type.f32)
    keep_layout_at_scales(model)
    layouts = {
        node.get_friendly_name(): node.get_rt_info()["outputLayouts"].value
        for node in _compiled(model).get_runtime_model().get_ops()
    }
    assert layouts["scaled"] == "acdb"
    for name, x in _run(ov.Core().read_model(segment), _inputs()).items():
        np.testing.assert_allclose(_run(model, _inputs())[name], x, **TOLERANCE)


def test_only_maps_between_segments_get_the_reduced_type(segment: Path) -> None:
    model = read_segment(ov.Core(), segment, PUBLIC, ov.Type.bf16)
    types = {port.any_name: port.element_type for port in (*model.inputs, *model.outputs)}
    reduced = {name for name, element in types.items() if element == ov.Type.bf16}
    assert reduced == {"a", "attended", "added", "block", "packed"}
    assert all(element == ov.Type.f32 for name, element in types.items() if name not in reduced)
    assert all(port.partial_shape[0] == 1 for port in model.inputs)


def test_reduced_borders_round_once(segment: Path) -> None:
    exact = _run(ov.Core().read_model(segment), _inputs())
    model = read_segment(ov.Core(), segment, PUBLIC, ov.Type.bf16)
    ours = _compiled(model).create_infer_request()
    for name, x in _inputs().items():
        bits = x.view(np.uint32) & np.uint32(0xFFFF0000) if name in {"a", "attended"} else x.view(np.uint32)
        if name in {"a", "attended"}:
            half = (bits >> np.uint32(16)).astype(np.uint16)
            ours.set_tensor(name, ov.Tensor(half, ov.Shape(half.shape), ov.Type.bf16))
        else:
            ours.set_tensor(name, ov.Tensor(x, shared_memory=True))
    ours.infer()
    wide = (ours.get_tensor("added").data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    # Both inputs cut to 8 bits, the sum rounded to 8.
    np.testing.assert_allclose(wide, exact["added"], atol=0.05, rtol=0.02)


def test_transposes_stay_at_convolutions_and_ends(segment: Path) -> None:
    """One between element-wise operators would be carried out."""
    model = read_segment(ov.Core(), segment, PUBLIC, ov.Type.f32)
    lay_channels_last(model, PUBLIC)
    for node in model.get_ops():
        if node.get_type_name() == "Relu":
            assert node.input_value(0).get_node().get_type_name() != "Transpose"
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert kinds.count("Convolution") == 2
