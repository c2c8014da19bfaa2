"""int8 graphs: what they compute against NumPy, how they are stored, and how they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino as ov
import pytest
from int8_bundle import SEGMENTS, int8_names, rounded_weight, segments
from onnx.reference import ReferenceEvaluator
from PIL import Image
from safetensors.numpy import load_file

from engine.bundle.bundle import WEIGHTS_FILE, Bundle, SegmentStage, SplitStage
from engine.diffusion.sampler import initial_noise
from engine.export.quantize import INT8_WEIGHTS_FILE, QuantizeReport
from engine.image.tiles import to_input
from engine.kernels import reference

Arrays = dict[str, np.ndarray]
# Runtimes against the oracle, relative root mean square. The float32 sums differ in their last digits.
RUNTIME = 1e-4
# The same of the first segment, twenty convolutions deep. There, now and then, a value that lies between two int8 steps
# goes to the other one, and takes others with it; ONNX Runtime also rounds biases to int32.
DEEP = 1e-2
# int8 against float32, the same: each convolution reads values that are off by 0.3 / 127 of their range, some 1 % of
# their usual size, and up to twenty follow each other.
INT8 = 0.1


@pytest.fixture(scope="module")
def tensors(bundle: Bundle, pictures: list[Path]) -> dict[str, Arrays]:
    """All that goes from segment to segment in float32, by program, while a picture is counted: its first step."""
    image = to_input(np.asarray(Image.open(pictures[0])), bundle.model)
    encoder = _chain(bundle, "encoder", {"image": image})
    noise = initial_noise(0, (1, bundle.model.latent_channels, *encoder["features"].shape[2:]), 0)
    first = {"features": encoder["features"], "x_t": noise, "t": np.ones(1, np.float32)}
    return {"encoder": encoder, "decoder": _chain(bundle, "decoder", first)}


def _chain(bundle: Bundle, program: str, arrays: Arrays) -> Arrays:
    for stage in bundle.programs[program].stages:
        given = {x: arrays[x] for x in stage.inputs}
        if isinstance(stage, SplitStage):
            made = dict(zip(stage.outputs, np.split(arrays[stage.input], np.cumsum(stage.sizes)[:-1], -1), strict=True))
        elif isinstance(stage, SegmentStage):
            made = _run_onnxruntime(bundle.path / stage.graph, given, stage.outputs)
        else:
            made = {stage.outputs[0]: reference.criss_cross_attention(*given.values()).astype(np.float32)}
        arrays = arrays | made
    return arrays


class _Oracle:
    """The float32 segment node by node in NumPy, with the inputs of int8 convolutions rounded as they should be.

    Takes from the int8 graph nothing but the scales of tensors, and biases.
    """

    def __init__(self, bundle: Bundle, stage: SegmentStage, names: set[str]):
        self.model = onnx.load(bundle.path / stage.graph)
        self.names = names
        typed = onnx.load(bundle.path / stage.typed["int8"]).graph
        stored = {x.name: onnx.numpy_helper.to_array(x) for x in typed.initializer}
        self.biases = {x: stored[f"{x}.bias"] for x in names if f"{x}.bias" in stored}
        rounded = [node for node in typed.node if node.op_type == "QuantizeLinear"]
        self.scales = {node.input[0]: float(stored[node.input[1]]) for node in rounded}
        self.unsigned = {node.input[0] for node in rounded if stored[node.input[2]].dtype == np.uint8}

    def run(self, inputs: Arrays) -> Arrays:
        graph = self.model.graph
        arrays = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer} | inputs
        for node in graph.node:
            given = [arrays[x] if x else None for x in node.input]
            if node.op_type == "Conv" and node.name in self.names:
                given = [self._rounded(node.input[0], arrays), rounded_weight(given[1]), self.biases[node.name]]
            elif node.op_type != "Conv":
                given = [
                    self._rounded(x, arrays) if x in self.scales else y for x, y in zip(node.input, given, strict=True)
                ]
            feeds = {x: y for x, y in zip(node.input, given, strict=True) if x}
            evaluator = ReferenceEvaluator(node, opsets={"": 18})
            arrays.update(zip(node.output, evaluator.run(None, feeds), strict=True))
        return {x.name: arrays[x.name] for x in graph.output}

    def _rounded(self, name: str, arrays: Arrays) -> np.ndarray:
        scale = np.float32(self.scales[name])
        low, high = (0, 255) if name in self.unsigned else (-128, 127)
        return np.clip(np.round(arrays[name] / scale), low, high).astype(np.float32) * scale


def _error(ours: np.ndarray, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean((ours - exact) ** 2)) / np.sqrt(np.mean(exact**2)))


def _run_onnxruntime(path: Path, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    runtime = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip(outputs, runtime.run(list(outputs), inputs), strict=True))


def _compiled(path: Path) -> ov.CompiledModel:
    return ov.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def _run_openvino(path: Path, inputs: Arrays, outputs: tuple[str, ...]) -> Arrays:
    made = _compiled(path)(inputs)
    return {x: made[x] for x in outputs}


@pytest.mark.parametrize(("program", "number"), SEGMENTS)
@pytest.mark.parametrize("runtime", [_run_onnxruntime, _run_openvino])
def test_values(
    report: QuantizeReport, tensors: dict[str, Arrays], program: str, number: int, runtime: Callable[..., Arrays]
) -> None:
    bundle = report.bundle
    stage = segments(bundle, program)[number]
    inputs = {x: tensors[program][x] for x in stage.inputs}
    expected = _Oracle(bundle, stage, int8_names(report, program)).run(inputs)
    ours = runtime(bundle.path / stage.typed["int8"], inputs, stage.outputs)
    for name in stage.outputs:
        exact = tensors[program][name]
        assert _error(ours[name], expected[name]) < (RUNTIME if (program, number) != SEGMENTS[0] else DEEP), name
        assert _error(ours[name], exact) < INT8, name


@pytest.mark.parametrize(("program", "number"), SEGMENTS)
def test_the_oracle_differs_from_float(
    report: QuantizeReport, tensors: dict[str, Arrays], program: str, number: int
) -> None:
    """Else the comparison with it would show nothing."""
    stage = segments(report.bundle, program)[number]
    inputs = {x: tensors[program][x] for x in stage.inputs}
    expected = _Oracle(report.bundle, stage, int8_names(report, program)).run(inputs)
    errors = [_error(expected[name], tensors[program][name]) for name in stage.outputs]
    assert max(errors) > (10 * RUNTIME if (program, number) != SEGMENTS[0] else DEEP)


def test_weights_are_int8_and_stored_once(bundle: Bundle, quantized: Bundle, report: QuantizeReport) -> None:
    stored, floats = load_file(quantized.path / INT8_WEIGHTS_FILE), load_file(quantized.path / WEIGHTS_FILE)
    rows = [x for x in report.rows if x.quantized]
    # The two passes of the encoder's attention share their weight.
    assert len(stored) == 2 * (len(rows) - 1)
    for name in (x.removesuffix(".int8") for x in stored if x.endswith(".int8")):
        values, scales = stored[f"{name}.int8"], stored[f"{name}.scale"]
        assert (values.dtype, scales.dtype, len(scales)) == (np.int8, np.float32, len(values))
        error = np.abs(values * scales[:, None, None, None] - floats[name].astype(np.float32))
        assert (error <= scales[:, None, None, None] * 0.5001).all(), name
        # All steps are used, by a weight or by two neighbours together: 255 * 128 is the most that 16 bits hold.
        even, odd = (values[:, first::2].astype(int) for first in (0, 1))
        pairs = np.abs(even[:, : odd.shape[1]] + odd).reshape(len(values), -1).max(axis=1)
        assert (pairs <= 128).all(), name
        assert (np.maximum(pairs, np.abs(values).reshape(len(values), -1).max(axis=1)) >= 126).all(), name
    for program, number in SEGMENTS:
        stage = segments(quantized, program)[number]
        graph = onnx.load(quantized.path / stage.typed["int8"], load_external_data=False).graph
        outside = {
            x.name: {y.key: y.value for y in x.external_data}["location"] for x in graph.initializer if x.external_data
        }
        read = {x.name: x for x in graph.initializer}
        producers = {x.output[0]: x for x in graph.node}
        for node in graph.node:
            if node.op_type == "Conv" and node.name in int8_names(report, program):
                weight = producers[node.input[1]].input[0]
                assert read[weight].data_type == onnx.TensorProto.INT8
                assert outside[weight] == INT8_WEIGHTS_FILE
                assert read[node.input[2]].data_type == onnx.TensorProto.FLOAT
        inside = [x for x in graph.initializer if x.name not in outside and not x.name.endswith(".bias")]
        assert sum(onnx.numpy_helper.to_array(x).nbytes for x in inside) < 2048
    sizes = [sum(x.stat().st_size for x in folder.iterdir()) for folder in (bundle.path, quantized.path)]
    assert sizes[1] == report.nbytes
    # One byte a weight instead of two, and five graphs.
    assert sizes[1] - sizes[0] < 0.6 * (bundle.path / WEIGHTS_FILE).stat().st_size + 100_000


def test_what_is_never_negative_has_all_steps_above_zero(quantized: Bundle) -> None:
    makers = {
        name: node.op_type
        for program in quantized.programs.values()
        for node in onnx.load(quantized.path / program.graph, load_external_data=False).graph.node
        for name in node.output
    }
    found = Counter[str]()
    for program, number in SEGMENTS:
        graph = onnx.load(quantized.path / segments(quantized, program)[number].typed["int8"]).graph
        stored = {x.name: onnx.numpy_helper.to_array(x) for x in graph.initializer}
        for node in graph.node:
            if node.op_type == "QuantizeLinear":
                zero = stored[node.input[2]]
                assert stored[node.input[1]].shape == zero.shape == ()
                assert not zero.any()
                assert (zero.dtype == np.uint8) == (makers.get(node.input[0]) == "Relu"), node.input[0]
                found[str(zero.dtype)] += 1
    assert min(found["int8"], found["uint8"]) >= 2


def test_convolutions_run_in_int8(report: QuantizeReport) -> None:
    """What OpenVINO says of the primitives that it chose."""
    found = Counter[str]()
    for program, number in SEGMENTS:
        model = _compiled(report.bundle.path / segments(report.bundle, program)[number].typed["int8"])
        for node in model.get_runtime_model().get_ordered_ops():
            info = node.get_rt_info()
            if info["layerType"].astype(str) == "Convolution":
                found[info["runtimePrecision"].astype(str)] += 1
    assert set(found) == {"u8", "i8", "f32"} & set(found)
    floats = sum(not x.quantized for x in report.rows)
    assert (found["f32"], found["u8"] + found["i8"]) == (floats, len(report.rows) - floats)
