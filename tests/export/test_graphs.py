"""The exported graphs, whole and in segments, compute what PyTorch computes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch

from engine.bundle.bundle import Bundle, KernelStage, SegmentStage, SplitStage
from engine.export.attention_function import attention_function
from engine.export.onnx_graph import trace_encoder
from engine.kernels import reference
from engine.model.network import CrowdNetwork

Arrays = dict[str, np.ndarray]

SIZES = [(1, 32, 32), (2, 64, 96), (1, 96, 32)]
# float32 sums in another order, relative to the largest value.
TOLERANCE = 2e-5


def _onnxruntime(path: str) -> Callable[[Arrays], Arrays]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _openvino(path: str) -> Callable[[Arrays], Arrays]:
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: {key.get_any_name(): value for key, value in model(inputs).items()}


def _run_stages(bundle: Bundle, name: str, inputs: Arrays, load: Callable) -> Arrays:
    arrays = dict(inputs)
    for stage in bundle.programs[name].stages:
        given = [arrays[x] for x in stage.inputs]
        if isinstance(stage, SegmentStage):
            made = load(str(bundle.path / stage.graph))(dict(zip(stage.inputs, given, strict=True)))
            results = [made[x] for x in stage.outputs]
        elif isinstance(stage, SplitStage):
            results = np.split(given[0], np.cumsum(stage.sizes)[:-1], axis=-1)
        else:
            results = [reference.criss_cross_attention(*given).astype(np.float32)]
        arrays.update(zip(stage.outputs, results, strict=True))
    return {x: arrays[x] for x in bundle.programs[name].outputs}


def _expected(
    network: CrowdNetwork, batch: int, height: int, width: int
) -> tuple[dict[str, Arrays], dict[str, Arrays]]:
    """Inputs and outputs of both programs; the decoder's samples are at different times."""
    rng = np.random.default_rng((batch, height, width))
    image = rng.standard_normal((batch, 3, height, width), np.float32)
    x_t = rng.standard_normal((batch, network.config.latent_channels, height // 8, width // 8), np.float32)
    t = np.linspace(1, 0.3, batch, dtype=np.float32)
    with torch.inference_mode():
        features, rate, signature = network.encoder(torch.from_numpy(image))
        x_0 = network.decoder(features, torch.from_numpy(x_t), torch.from_numpy(t))
    inputs = {"encoder": {"image": image}, "decoder": {"features": features.numpy(), "x_t": x_t, "t": t}}
    outputs = {
        "encoder": {"features": features.numpy(), "rate": rate.numpy(), "signature": signature.numpy()},
        "decoder": {"x_0": x_0.numpy()},
    }
    return inputs, outputs


def _assert_close(ours: Arrays, theirs: Arrays) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape
        assert np.abs(ours[name] - expected).max() <= TOLERANCE * np.abs(expected).max(), name


def test_folding_norms_keeps_the_function(trained: CrowdNetwork, network: CrowdNetwork) -> None:
    inputs, _ = _expected(network, 1, 64, 96)
    image = torch.from_numpy(inputs["encoder"]["image"])
    with torch.inference_mode():
        pairs = [*zip(network.encoder(image), trained.encoder(image), strict=True)]
    for folded, original in pairs:
        # The weights were also rounded to 11 bits.
        assert torch.linalg.norm(folded - original) < 2e-3 * torch.linalg.norm(original)


def test_attention_matters(network: CrowdNetwork) -> None:
    """Else the tests below could not see a wrong attention."""
    without = copy.deepcopy(network)
    for half in (without.encoder, without.decoder):
        half.attention.gamma.zero_()
    inputs, outputs = _expected(network, 1, 64, 96)
    features, x_t, t = (torch.from_numpy(x) for x in inputs["decoder"].values())
    with torch.inference_mode():
        encoded = without.encoder(torch.from_numpy(inputs["encoder"]["image"]))[0].numpy()
        decoded = without.decoder(features, x_t, t).numpy()
    assert np.abs(encoded - outputs["encoder"]["features"]).max() > 0.05 * np.abs(encoded).max()
    assert np.abs(decoded - outputs["decoder"]["x_0"]).max() > 0.05 * np.abs(decoded).max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("program", ["encoder", "decoder"])
def test_whole_graph_in_onnxruntime(bundle: Bundle, network: CrowdNetwork, program: str, size: tuple) -> None:
    inputs, outputs = _expected(network, *size)
    run = _onnxruntime(str(bundle.path / bundle.programs[program].graph))
    _assert_close(run(inputs[program]), outputs[program])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("program", ["encoder", "decoder"])
@pytest.mark.parametrize("load", [_onnxruntime, _openvino], ids=["onnxruntime", "openvino"])
def test_segments_and_kernels(bundle: Bundle, network: CrowdNetwork, program: str, load: Callable, size: tuple) -> None:
    inputs, outputs = _expected(network, *size)
    _assert_close(_run_stages(bundle, program, inputs[program], load), outputs[program])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (1, 5, 1), (2, 6, 11)])
def test_function_body_against_the_oracle(shape: tuple) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((*shape, size), np.float32) for name, size in (("q", 4), ("k", 4), ("v", 3))}
    values = [onnx.helper.make_tensor_value_info(x, 1, [None] * 4) for x in ("q", "k", "v", "out")]
    node = onnx.helper.make_node("criss_cross_attention", ["q", "k", "v"], ["out"], domain="crowd")
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "attention", values[:3], values[3:]),
        functions=[attention_function()],
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("crowd", 1)],
        ir_version=10,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, arrays)[0], reference.criss_cross_attention(**arrays), atol=1e-5)


def test_packed_projection_leaves_in_one_piece(bundle: Bundle) -> None:
    kinds = {name: [type(stage) for stage in program.stages] for name, program in bundle.programs.items()}
    one_pass = [SegmentStage, SplitStage, KernelStage]
    assert kinds == {"encoder": [*one_pass, *one_pass, SegmentStage], "decoder": [*one_pass, SegmentStage]}


def test_graphs_hold_no_weights_and_no_paths(bundle: Bundle) -> None:
    for file in bundle.path.glob("*.onnx"):
        raw = file.read_bytes()
        assert len(raw) < 64 * 1024, file.name
        assert b".py" not in raw, f"{file.name} names source files"


def _from_interrupt() -> RuntimeError:
    error = RuntimeError("the exporter failed")
    error.__cause__ = ValueError("a part of it failed")
    error.__cause__.__context__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (_from_interrupt(), KeyboardInterrupt),
        (RuntimeError("KeyboardInterrupt: <EMPTY MESSAGE>"), KeyboardInterrupt),
        (RuntimeError("an operator is missing"), RuntimeError),
    ],
    ids=["wrapped", "as text", "another error"],
)
def test_ctrl_c_is_found_in_what_the_exporter_makes_of_it(raised, expected, trained, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(expected):
        trace_encoder(trained)
