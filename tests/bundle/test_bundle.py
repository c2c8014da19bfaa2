"""Bundles on disk: round trip, nearest rule, and every kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reliability.small_bundle import SMALL, programs, write_small_bundle

from engine.bundle.bundle import MANIFEST_FILE, Bundle, load_bundle, write_manifest
from engine.config import CountingRule
from engine.counting.heads import choose_rule
from engine.errors import BundleError

RULES = {1: CountingRule(0.2, 0.4), 4: CountingRule(0.3, 0.3)}


def _write(folder: Path) -> Bundle:
    return write_small_bundle(folder, name="test", counting=RULES, versions={"torch": "2"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write(tmp_path).path


def test_round_trip(folder: Path) -> None:
    bundle = load_bundle(str(folder))
    assert bundle == _write(folder)
    assert (bundle.name, bundle.default_steps, bundle.model) == ("test", 3, SMALL)
    assert bundle.programs == programs()
    assert bundle.versions == {"torch": "2"}
    assert not list(folder.glob("*.part"))


def test_rule_of_the_nearest_number_of_steps(folder: Path) -> None:
    bundle = load_bundle(folder)
    chosen = {steps: choose_rule(bundle.counting, steps) for steps in (1, 2, 3, 4, 50)}
    assert chosen == {1: RULES[1], 2: RULES[1], 3: RULES[4], 4: RULES[4], 50: RULES[4]}
    tie = write_manifest(
        folder, name="x", model=bundle.model, default_steps=1, programs=bundle.programs,
        counting={1: RULES[1], 3: RULES[4]},
    )  # fmt: skip
    assert choose_rule(tie.counting, 2) == RULES[1]


def test_digest_covers_every_file(folder: Path) -> None:
    bundle = load_bundle(folder)
    _flip(folder)
    changed = write_manifest(
        folder, name=bundle.name, model=bundle.model, default_steps=bundle.default_steps, counting=bundle.counting,
        programs=bundle.programs, versions=bundle.versions,
    )  # fmt: skip
    assert changed.digest != bundle.digest


def _flip(folder: Path) -> None:
    raw = bytearray((folder / "second.onnx").read_bytes())
    # In the name of its maker.
    raw[7] ^= 1
    (folder / "second.onnx").write_bytes(raw)


def _truncate(folder: Path) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def _link(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    outside.write_bytes((folder / "encoder.onnx").read_bytes())
    (folder / "encoder.onnx").unlink()
    (folder / "encoder.onnx").symlink_to(outside)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip, "second.onnx is not the file"),
        (_truncate, "weights.safetensors has 4999 bytes, expected 5000"),
        (lambda folder: (folder / "first.onnx").unlink(), "first.onnx is missing"),
        (_link, "encoder.onnx is a link; copy the bundle"),
        (lambda folder: (folder / MANIFEST_FILE).unlink(), "no manifest.json"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("{"), "cannot be understood"),
        (lambda folder: (folder / MANIFEST_FILE).write_bytes(b"\xff\xfe\x00"), "cannot be understood"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("[]"), "cannot be understood"),
    ],
)
def test_damaged_files(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


RECORD = {"size": 1, "sha256": "0"}


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["format"], 3, "update the engine"),
        (["format"], 1, "crowd export CHECKPOINT"),
        (["format"], None, "crowd export CHECKPOINT"),
        (["files", "../x"], RECORD, "not a plain file name"),
        (["files", "/etc/passwd"], RECORD, "not a plain file name"),
        (["files", "a\\b"], RECORD, "not a plain file name"),
        (["files", ".."], RECORD, "not a plain file name"),
        (["files", "extra.onnx"], RECORD, "extra.onnx is missing"),
        (["files"], None, "cannot be understood"),
        (["model", "depth"], 3, "depth"),
        (["model"], {}, "export it again"),
        (["model"], [], "cannot be understood"),
        (["model", "stem_kernel"], 4, "cannot be understood.*stem_kernel 4 is not odd"),
        (["counting"], {}, "counting rules"),
        (["counting", "0"], {"low": 0.1, "high": 0.2}, "counting rules"),
        (["counting", "1"], {"low": 0.5, "high": 0.2}, "thresholds"),
        (["counting", "1"], {"low": 0, "high": 0.2}, "thresholds"),
        (["counting", "1", "beyond_peaks"], 1, "beyond_peaks 1 is neither true nor false"),
        (["default_steps"], 0, "default steps"),
        (["default_steps"], True, "default steps"),
        (["programs", "decoder", "graph"], "../encoder.onnx", "does not list"),
        (["programs", "decoder", "stages", 0, "graph"], "other.onnx", "does not list"),
        (["programs", "decoder", "stages", 2, "kernel"], "flash", "update the engine"),
        (["programs", "decoder", "stages", 3, "inputs"], ["attended", "y"], "uses y before it is made"),
        (["programs", "decoder", "outputs"], ["x_1"], "does not make"),
        (["programs", "decoder", "stages"], 5, "cannot be understood"),
        (["programs", "decoder", "outputs"], "x_0", "'x_0' is no list of names"),
        (["programs", "decoder", "outputs"], ["x_0"] * 1000, "is no list of names"),
        (["programs"], {}, "cannot be understood"),
    ],
)
def test_bad_manifests(folder: Path, keys: list, value: Any, message: str) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    entry = manifest
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_a_bundle_from_before_a_setting_has_its_old_value(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    assert manifest["model"].pop("stem_kernel") == 3
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    assert load_bundle(folder).model == replace(SMALL, stem_kernel=3)


def test_folders_that_cannot_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle("a" * 5000)

    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(BundleError, match="Permission denied"):
        load_bundle(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a folder written by crowd export"):
        load_bundle(tmp_path / "nothing")
