"""Every segment builds with TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx
import torch
from safetensors.numpy import load_file

from engine.backends.tensorrt.library import ShapeRange, TensorRT, load_tensorrt
from engine.bundle.bundle import WEIGHTS_FILE, Bundle, SegmentStage
from engine.errors import BackendError, BundleError
from engine.export.__main__ import main
from engine.export.tensorrt import build_bundle

TYPES = ["float16", "bfloat16"]


@pytest.fixture(scope="module")
def library() -> TensorRT:
    return TensorRT(tensorrt_rtx, "tensorrt_rtx")


def _typed(bundle: Bundle, compute_type: str) -> list[Path]:
    stages = [x for program in bundle.programs.values() for x in program.stages if isinstance(x, SegmentStage)]
    return [bundle.path / x.typed[compute_type] for x in stages]


@pytest.mark.parametrize("compute_type", TYPES)
def test_small_bundle(bundle: Bundle, library: TensorRT, compute_type: str) -> None:
    report = build_bundle(bundle.path, compute_types=(compute_type,), library=library)
    assert [x.graph for x in report.rows] == [x.name for x in _typed(bundle, compute_type)]
    assert len(report.rows) == 5
    assert "5 engines by tensorrt_rtx" in str(report)


def test_default_bundle(library: TensorRT) -> None:
    report = build_bundle("default", library=library)
    assert len(report.rows) == 10
    assert min(x.nbytes for x in report.rows) > 100_000


@pytest.mark.parametrize("capability", ["8.0", "8.6", "8.9", "12.0"])
def test_capabilities(bundle: Bundle, library: TensorRT, capability: str) -> None:
    report = build_bundle(bundle.path, compute_types=("float16",), capabilities=(capability,), library=library)
    assert {x.capability for x in report.rows} == {capability}


@pytest.mark.parametrize("compute_type", TYPES)
def test_engines_hold_weights_in_their_own_type(bundle: Bundle, library: TensorRT, compute_type: str) -> None:
    """The Casts of weights are gone: nothing is converted while an engine runs, and nothing is stored wider."""
    weights = load_file(bundle.path / WEIGHTS_FILE)["encoder.attention.query_key_value.weight"]
    engine = library.build(bundle.path / f"encoder.1.{compute_type}.onnx", ShapeRange())
    row = torch.from_numpy(np.array(weights[5, :, 0, 0], np.float32))
    found = {x: engine.find(row.to(getattr(torch, x)).view(torch.uint8).numpy().tobytes()) > 0 for x in TYPES}
    assert found == {x: x == compute_type for x in TYPES}
    assert engine.find(row.numpy().tobytes()) < 0


@pytest.mark.parametrize("compute_type", TYPES)
def test_segments_become_one_kernel_graph(
    bundle: Bundle, library: TensorRT, compute_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No copy of a shape from the host, which a captured CUDA graph would repeat from memory that changed since."""
    with caplog.at_level(logging.DEBUG, "engine"):
        for graph in _typed(bundle, compute_type):
            library.build(graph, ShapeRange())
    layers = re.findall(r"^Layer\((\w+)\)", "\n".join(x.getMessage() for x in caplog.records), re.MULTILINE)
    assert layers == ["Myelin"] * 5


@pytest.mark.parametrize("size", [(1, 3008, 4000), (1, 8192, 8192), (64, 768, 1024)])
def test_ranges_beyond_the_common_one(bundle: Bundle, library: TensorRT, size: tuple[int, int, int]) -> None:
    assert ShapeRange.holding(*size) != ShapeRange()
    for graph in _typed(bundle, "float16"):
        assert library.build(graph, ShapeRange.holding(*size))


def test_no_gpu_is_said(bundle: Bundle, library: TensorRT) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: the message for machines without cannot appear")
    engine = library.build(bundle.path / "decoder.1.float16.onnx", ShapeRange())
    with pytest.raises(BackendError, match=r"tensorrt_rtx .*CUDA"):
        library.load(engine)


def test_broken_graphs_are_refused(bundle: Bundle, library: TensorRT, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"cannot parse .*Failed to parse the ONNX model"):
        library.build(tmp_path / "x.onnx", ShapeRange())
    # Its weights are missing.
    (tmp_path / "y.onnx").write_bytes((bundle.path / "encoder.0.float16.onnx").read_bytes())
    with pytest.raises(BackendError, match=r"cannot parse .*Failed to import initializer: encoder\.stride2"):
        library.build(tmp_path / "y.onnx", ShapeRange())
    wrong = ShapeRange((1, 64, 64), (1, 32, 32), (1, 64, 64))
    with pytest.raises(BackendError, match="MIN<=OPT<=MAX"):
        library.build(bundle.path / "decoder.1.float16.onnx", wrong)


def test_unknown_types_and_capabilities(bundle: Bundle, library: TensorRT) -> None:
    with pytest.raises(BundleError, match=r"no int8 segment of encoder\.0\.onnx"):
        build_bundle(bundle.path, compute_types=("int8",), library=library)
    with pytest.raises(BackendError, match=r"cannot build for capability 9\.0; it knows .*89"):
        build_bundle(bundle.path, capabilities=("9.0",), library=library)


def test_command_line(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tensorrt", str(bundle.path), "--type", "bfloat16", "--capability", "8.9"]) == 0
    assert f"5 engines by {load_tensorrt().name}" in capsys.readouterr().out
    assert main(["tensorrt", str(bundle.path), "--capability", "1.0"]) == 2
