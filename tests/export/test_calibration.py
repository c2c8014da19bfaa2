"""What int8 is fitted to: ranges, means, counts and maps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from int8_bundle import rounded_weight
from PIL import Image
from safetensors.numpy import load_file

from engine.bundle.bundle import WEIGHTS_FILE, Bundle
from engine.errors import ConfigError
from engine.export import quantize
from engine.export.agreement import disagreement
from engine.export.calibration import GraphRunner, Magnitudes, session
from engine.export.quantized_onnx import Grid, never_negative, quantize_weight
from engine.image.tiles import to_input


def test_sensitivity_is_measured_on_counts_and_maps(bundle: Bundle, pictures: list[Path]) -> None:
    """With a range of nothing, an int8 convolution gives what weights of zero give."""
    quantizer = quantize._Quantizer(bundle, pictures, progress=False)
    quantizer.measure()
    quantizer._grids["decoder"]["relu"] = Grid(1e-12, is_unsigned=True)  # type: ignore[index]
    graphs = {name: onnx.load(bundle.path / x.graph) for name, x in bundle.programs.items()}
    exact = GraphRunner(bundle, {name: session(graph) for name, graph in graphs.items()})
    for tensor in graphs["decoder"].graph.initializer:
        if tensor.name == "decoder.out.weight":
            tensor.raw_data = bytes(len(tensor.raw_data))
    zeroed = GraphRunner(bundle, {name: session(graph) for name, graph in graphs.items()})
    images = [np.asarray(Image.open(x)) for x in pictures]
    expected = disagreement(*([runner.heads(x) for x in images] for runner in (exact, zeroed)))
    assert expected > 0
    assert quantizer.error({("decoder", "out.conv")}) == expected


def test_biases_keep_the_means(bundle: Bundle, pictures: list[Path]) -> None:
    """Of 1x1 convolutions exactly: no border is involved. In NumPy, on what these convolutions read."""
    quantizer = quantize._Quantizer(bundle, pictures, progress=False)
    quantizer.measure()
    graph = onnx.load(bundle.path / "encoder.onnx")
    weights = load_file(bundle.path / WEIGHTS_FILE)
    tensor = {x.name: x.input[0] for x in graph.graph.node}["lateral8.conv"]
    graph.graph.output.extend(x for x in graph.graph.value_info if x.name == tensor)
    images = [to_input(np.asarray(Image.open(x)), bundle.model) for x in pictures]
    read = [session(graph).run([tensor], {"image": x})[0].astype(np.float64) for x in images]
    weight, bias = (weights[f"encoder.lateral8.{x}"].astype(np.float64) for x in ("weight", "bias"))
    # A ReLU has made it: none is below 0.
    step = np.float32(quantizer._grids["encoder"][tensor].limit / 255)
    rounded = [np.clip(np.rint(x / step), 0, 255) * step for x in read]
    exact, before, after = (
        np.mean([np.einsum("oi,bihw->o", kernel[:, :, 0, 0], x) / x[0, 0].size + b for x in values], axis=0)
        for kernel, values, b in (
            (weight, read, bias),
            (rounded_weight(weight), rounded, bias),
            (rounded_weight(weight), rounded, quantizer._biases["encoder"]["lateral8.conv"]),
        )
    )
    assert np.abs(after - exact).max() < 1e-5
    assert np.abs(before - exact).max() > 1e-4


def test_pictures_without_people(bundle: Bundle, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "GraphRunner", lambda *_: SimpleNamespace(heads=lambda _: (0, np.zeros((2, 2)))))
    with pytest.raises(ConfigError, match="counts nobody in the pictures to calibrate on; give some with people"):
        quantize._Quantizer(bundle, pictures, progress=False).measure()


@pytest.mark.parametrize("levels", [127, 255])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (1, 64, 31, 33)])
def test_grid_loses_least(shape: tuple[int, ...], levels: int) -> None:
    """Against the loss on the values themselves; a histogram can only come close."""
    rng = np.random.default_rng(len(shape))
    batches = [rng.standard_normal(shape, np.float32) * size for size in (0.1, 1, 3)]
    magnitudes = Magnitudes()
    for batch in batches:
        magnitudes.add(batch)
    values = np.concatenate([x.ravel() for x in batches]).astype(np.float64)
    if levels == 255:
        values = np.abs(values)

    def loss(limit: float) -> float:
        step = limit / levels
        return float(((np.clip(np.round(values / step), -levels, levels) * step - values) ** 2).sum())

    largest = np.abs(values).max()
    limit = magnitudes.grid(is_unsigned=levels == 255).limit
    if values.size > 1000:
        best = min(loss(share * largest) for share in np.linspace(0.1, 1, 400))
        # The histogram sees every third value, so of the outermost ones, which settle it, a few.
        assert loss(limit) < 1.05 * best
        assert limit < 0.95 * largest
    else:
        assert 0.2 * largest <= limit <= largest * 1.0001


def test_grid_of_nothing() -> None:
    magnitudes = Magnitudes()
    magnitudes.add(np.zeros((1, 2, 3, 4), np.float32))
    assert magnitudes.grid() == Grid(1.0)


@pytest.mark.parametrize(("least", "expected"), [(0.0, {"a", "b"}), (-1.0, {"a"})])
def test_clip_is_never_negative_from_zero_on(least: float, expected: set[str]) -> None:
    nodes = [onnx.helper.make_node(*x) for x in (("Relu", ["x"], ["a"]), ("Clip", ["x", "l"], ["b"]))]
    nodes += [onnx.helper.make_node("Add", ["a", "b"], ["c"]), onnx.helper.make_node("Clip", ["x"], ["d"])]
    limit = onnx.numpy_helper.from_array(np.float32(least), "l")
    graph = onnx.helper.make_graph(nodes, "g", [], [], initializer=[limit])
    assert never_negative(onnx.helper.make_model(graph)) == expected


def test_channels_of_zeros() -> None:
    weight = np.zeros((2, 3, 1, 1), np.float16)
    weight[1, 1] = 2.54
    made = quantize_weight(weight)
    np.testing.assert_array_equal(made.values[:, :, 0, 0], [[0, 0, 0], [0, 127, 0]])
    np.testing.assert_allclose(made.scales, [1, 2.54 / 127], rtol=1e-3)
