"""Which int8 weights a processor without VNNI can use, by what OpenVINO computes with instructions of AVX2 alone."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from engine.bundle.bundle import load_bundle
from engine.bundle.int8_weights import MOST_PAIR, fits_16_bits, largest_pairs
from engine.export.quantized_onnx import quantize_weight

_RUN = """
import sys, numpy as np, openvino as ov
model = ov.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
types = {x.get_rt_info()["layerType"].astype(str): x.get_rt_info() for x in model.get_runtime_model().get_ordered_ops()}
layer = types.get("Convolution") or types["GroupConvolution"]
assert layer["runtimePrecision"].astype(str) in ("u8", "i8"), "it is no int8 convolution"
np.save(sys.argv[3], model(np.load(sys.argv[2]))[0])
"""


def _model(weight: np.ndarray, groups: int) -> onnx.ModelProto:
    """A convolution of uint8 with steps of 1; its input may have any value from 0 to 255."""
    outputs, inputs, *kernel = weight.shape
    shape = [1, inputs * groups, 16, 16]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "one", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["weight", "ones"], ["kernel"], axis=0),
        helper.make_node("Conv", ["read", "kernel"], ["y"], kernel_shape=kernel, group=groups),
    ]
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weight": weight,
        "ones": np.ones(outputs, np.float32),
    }
    ends = (
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    tensors = [numpy_helper.from_array(np.asarray(x), name) for name, x in constants.items()]
    graph = helper.make_graph(nodes, "g", *ends, initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _difference(weight: np.ndarray, folder: Path, groups: int = 1) -> float:
    """Largest error of OpenVINO with AVX2 alone, on inputs as large as they can be."""
    x = np.full((1, weight.shape[1] * groups, 16, 16), 255, np.float32)
    onnx.save(_model(weight, groups), folder / "model.onnx")
    np.save(folder / "x.npy", x)
    words = [sys.executable, "-P", "-c", _RUN, *(str(folder / name) for name in ("model.onnx", "x.npy", "y.npy"))]
    subprocess.run(words, check=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"})
    expected = 255 * weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
    return float(np.abs(np.load(folder / "y.npy") - expected[None, :, None, None]).max())


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="the overflow is x86's")
@pytest.mark.parametrize(("inputs", "kernel"), [(16, 1), (40, 1), (24, 3), (3, 3)])
def test_without_vnni_pairs_of_channels_are_added_in_16_bits(inputs: int, kernel: int, tmp_path: Path) -> None:
    wide = np.zeros((32, inputs, kernel, kernel), np.int8)
    # Channels 0 and 1 together are as large as fits, channels 1 and 2 far larger.
    wide[:, 0::4], wide[:, 1::4], wide[:, 2::4], wide[:, 3::4] = 1, 127, 127, 1
    assert largest_pairs(wide).max() <= MOST_PAIR
    assert _difference(wide, tmp_path) < 0.5
    wide[:, 0::4], wide[:, 1::4] = 64, 66
    assert largest_pairs(wide).max() == MOST_PAIR + 2
    assert _difference(wide, tmp_path) > 0.5


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="the overflow is x86's")
@pytest.mark.parametrize("kernel", [3, 5])
def test_without_vnni_depthwise_convolutions_do_not_overflow(kernel: int, tmp_path: Path) -> None:
    assert _difference(np.full((32, 1, kernel, kernel), 127, np.int8), tmp_path, groups=32) < 0.5


@pytest.mark.parametrize("shape", [(5, 7, 3, 3), (4, 1, 3, 3), (6, 8, 1, 1), (3, 3, 2, 2)])
def test_weights_are_rounded_to_pairs_that_fit(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=shape).astype(np.float32)
    # Pairs of equal weights are the largest that there are.
    weight[0] = np.abs(weight[0]).max()
    made = quantize_weight(weight)
    steps = made.values.astype(int)
    pairs = [
        abs(int(kernel[i, y, x]) + (int(kernel[i + 1, y, x]) if i + 1 < shape[1] else 0))
        for kernel in steps
        for i in range(0, shape[1], 2)
        for y in range(shape[2])
        for x in range(shape[3])
    ]
    assert max(pairs) <= MOST_PAIR
    assert max(pairs) >= MOST_PAIR - 1
    error = np.abs(made.values * made.scales[:, None, None, None] - weight)
    assert (error <= made.scales[:, None, None, None] * 0.5001).all()
    if shape[1] == 1:
        assert (np.abs(steps).reshape(len(steps), -1).max(axis=1) == 127).all()


def test_a_bundle_whose_weights_are_too_large_is_found(tmp_path: Path) -> None:
    """The shipped bundle with int8 weights of zero but for one pair."""
    bundle = load_bundle("default")
    folder = tmp_path / "bundle"
    shutil.copytree(bundle.path, folder)
    file = folder / "weights.int8.safetensors"
    tensors = {name: np.zeros_like(x) for name, x in load_file(file).items()}
    name = next(x for x in tensors if x.endswith(".int8") and tensors[x].shape[1] == 64)
    for pair, fits in (((64, 64), True), ((127, 1), True), ((-127, 127), True), ((64, 65), False), ((-64, -65), False)):
        tensors[name][-1, -2:, 0, 0] = pair
        save_file(tensors, file)
        assert fits_16_bits(dataclasses.replace(bundle, path=folder)) == fits, pair
