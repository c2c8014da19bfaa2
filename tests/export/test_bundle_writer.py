"""Export from a checkpoint: complete, refused, or nothing at all; and its verification."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from engine.bundle.bundle import MANIFEST_FILE, WEIGHTS_FILE, Bundle, load_bundle
from engine.counting.heads import choose_rule
from engine.errors import ConfigError
from engine.export import bundle_writer
from engine.export.__main__ import main
from engine.export.checkpoint import load_checkpoint, prepare
from engine.export.verify import _compare, verify_bundle
from engine.model.checkpoint import save_model
from engine.model.network import CrowdNetwork


def test_bundle_describes_the_checkpoint(bundle: Bundle, network: CrowdNetwork) -> None:
    assert (bundle.name, bundle.default_steps, bundle.model) == ("small", 3, network.config)
    assert set(bundle.versions) == {"torch", "onnx", "onnxscript", "safetensors"}
    weights = load_file(bundle.path / WEIGHTS_FILE)
    expected = network.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert tensor.dtype == np.float16
        np.testing.assert_array_equal(tensor, expected[name].numpy(), err_msg=name)


def test_failure_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(network: CrowdNetwork) -> None:
        # By now the weights are written.
        assert list((tmp_path / "models").glob(f".broken.*/{WEIGHTS_FILE}"))
        raise RuntimeError("half-way")

    monkeypatch.setitem(bundle_writer._TRACERS, "encoder", fail)
    with pytest.raises(RuntimeError, match="half-way"):
        bundle_writer.export_bundle(checkpoint, tmp_path / "models" / "broken", "broken")
    assert list((tmp_path / "models").iterdir()) == []


def test_existing_folder_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        bundle_writer.export_bundle(checkpoint, tmp_path, "small")
    assert (tmp_path / "mine").read_text() == "precious"


def test_counting_rule_is_required(trained: CrowdNetwork, tmp_path: Path) -> None:
    save_model(trained, {}, tmp_path / "raw.pt")
    with pytest.raises(ConfigError, match="no counting rule"):
        bundle_writer.export_bundle(tmp_path / "raw.pt", tmp_path / "out", "raw")
    assert not (tmp_path / "out").exists()


def test_a_counting_rule_of_another_version_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "counting": {3: {"bottom": 0.2}}}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"not a checkpoint of this version \(TypeError: .*'bottom'"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(ConfigError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "best.pt")


def test_weights_beyond_float16_are_refused(trained: CrowdNetwork) -> None:
    network = copy.deepcopy(trained)
    network.decoder.out.weight.data[0] = 1e6
    with pytest.raises(ConfigError, match=r"decoder\.out\.weight"):
        prepare(network)


def test_verify_accepts_the_bundle(bundle: Bundle) -> None:
    report = verify_bundle(bundle.path, backends=(), steps=2)
    assert report.passed, str(report)
    quantities = ["features", "rate", "signature", "x_0, step 1", "x_0, step 2", "final map", "peaks"]
    assert [row.quantity for row in report.rows] == quantities


def test_verify_compares_with_nothing_found() -> None:
    """A share of no peaks is none; one found is a whole head too many."""
    row = _compare("openvino int8", "peaks", np.array([1]), np.array([0]), 0.1)
    assert (row.relative, row.passed) == (1.0, False)
    assert _compare("openvino int8", "peaks", np.array([0]), np.array([0]), 0.1).passed


def test_verify_sees_another_networks_graph(
    bundle: Bundle, checkpoint: Path, trained: CrowdNetwork, tmp_path: Path
) -> None:
    """Graphs and weights that do not belong together: the time scale of one graph is changed."""
    for file in bundle.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = tmp_path / "decoder.onnx"
    two_pi = np.float32(2 * np.pi).tobytes()
    assert graph.read_bytes().count(two_pi) == 1
    graph.write_bytes(graph.read_bytes().replace(two_pi, np.float32(6.0).tobytes()))
    fields = {x.name: getattr(bundle, x.name) for x in dataclasses.fields(bundle) if x.name not in ("path", "digest")}
    bundle_writer.write_manifest(tmp_path, **fields)
    report = verify_bundle(tmp_path, backends=(), steps=2)
    failed = {row.quantity for row in report.rows if not row.passed}
    assert "x_0, step 1" in failed
    assert not failed & {"features", "rate"}
    assert "FAILED" in str(report)


def test_command_line(bundle: Bundle, checkpoint: Path, tmp_path: Path) -> None:
    raw = torch.load(checkpoint, weights_only=True)
    del raw["counting"]
    torch.save(raw, tmp_path / "raw.pt")
    assert main([str(tmp_path / "raw.pt"), str(tmp_path / "out")]) == 2
    words = [str(tmp_path / "raw.pt"), str(tmp_path / "out"), "--threshold", "0.2", "0.5", "--steps", "2"]
    assert main(words) == 0
    made = load_bundle(tmp_path / "out")
    assert (made.name, made.default_steps, choose_rule(made.counting, 5).high) == ("out", 2, 0.5)
    # The same weights give the same files, byte for byte.
    files = [json.loads((x / MANIFEST_FILE).read_text())["files"] for x in (bundle.path, made.path)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "0.9", "0.1"], "the peak threshold must be 0 < LOW <= HIGH <= 1, got 0.9 0.1"),
        (["--threshold", "0", "0.5"], "the peak threshold must be"),
        (["--threshold", "nan", "0.5"], "the peak threshold must be"),
        (["--steps", "0"], "steps must be an integer from 1 to 1000, got 0"),
        (["--steps", "1001", "--threshold", "0.1", "0.5"], "steps must be an integer from 1 to 1000, got 1001"),
    ],
)
def test_options_that_cannot_be_are_refused(checkpoint: Path, tmp_path: Path, capsys, options, message) -> None:
    assert main([str(checkpoint), str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "damaged" not in error
    assert not (tmp_path / "out").exists()


def test_steps_that_cannot_be_are_not_verified(bundle: Bundle, capsys) -> None:
    assert main(["verify", str(bundle.path), "--steps", "0"]) == 2
    assert "steps must be an integer from 1 to 1000, got 0" in capsys.readouterr().err
