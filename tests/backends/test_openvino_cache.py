"""Compiled models on disk: found again, and never trusted."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

import engine
from engine.backends.openvino import models

PICTURE = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Graphs that were compiled, not loaded."""
    graphs: list[str] = []
    compile_model = models.SegmentModels._compile

    def watched(self, stage, model):
        graphs.append(stage.graph)
        return compile_model(self, stage, model)

    monkeypatch.setattr(models.SegmentModels, "_compile", watched)
    return graphs


def _heatmap(folder: Path, **options) -> np.ndarray:
    with engine.CrowdCounter(backend="openvino", steps=1, cache_dir=folder, **options) as counter:
        return counter.count(PICTURE).heatmap


def test_the_second_counter_compiles_nothing(tmp_path: Path, compiled: list[str]) -> None:
    first = _heatmap(tmp_path)
    graphs = len(compiled)
    assert graphs == len(set(compiled)) > 0
    assert len(list(tmp_path.iterdir())) == graphs
    assert np.array_equal(_heatmap(tmp_path), first)
    assert len(compiled) == graphs
    # What depends on the options has files of its own.
    np.testing.assert_allclose(_heatmap(tmp_path, cpu_threads=1), first, atol=0.05)
    assert len(compiled) == 2 * graphs


def test_the_environment_names_the_folder(tmp_path: Path, compiled: list[str], monkeypatch) -> None:
    monkeypatch.setenv("CROWD_CACHE_DIR", str(tmp_path / "named"))
    _heatmap(None)
    assert len(list((tmp_path / "named").iterdir())) == len(compiled)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_damaged_files_are_compiled_again(tmp_path: Path, compiled: list[str], caplog, damage: str) -> None:
    first = _heatmap(tmp_path)
    graphs = len(compiled)
    for file in tmp_path.iterdir():
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes({"flipped": bytes(raw), "cut": bytes(raw[: len(raw) // 2]), "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, "engine"):
        assert np.array_equal(_heatmap(tmp_path), first)
    assert len(compiled) == 2 * graphs
    assert caplog.text.count("is damaged or not of this machine") == graphs
    # They were replaced.
    assert np.array_equal(_heatmap(tmp_path), first)
    assert len(compiled) == 2 * graphs


def test_a_model_that_openvino_refuses_is_compiled_again(tmp_path: Path, compiled: list[str], caplog) -> None:
    """Whole on disk, yet not what this OpenVINO reads."""
    first = _heatmap(tmp_path)
    graphs = len(compiled)
    load = models.CompiledCache.load
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "engine"):
        patch.setattr(models.CompiledCache, "load", lambda self, *x: load(self, *x) and b"not a model")
        assert np.array_equal(_heatmap(tmp_path), first)
    assert caplog.text.count("OpenVINO refuses the compiled model of") == graphs
    assert len(compiled) == 2 * graphs


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path, compiled: list[str], caplog) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way of the folder")
    with caplog.at_level(logging.WARNING, "engine"):
        heatmap = _heatmap(blocked)
    assert heatmap.shape == (35, 45)
    assert caplog.text.count("the cache of engines in") == 1
    assert blocked.read_text() == "in the way of the folder"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_everybody_may_write_to_is_not_trusted(tmp_path: Path, compiled: list[str], caplog) -> None:
    tmp_path.chmod(0o777)
    with caplog.at_level(logging.WARNING, "engine"):
        _heatmap(tmp_path)
    assert "use a private folder" in caplog.text
    assert not list(tmp_path.iterdir())


def test_models_for_one_size_are_not_kept_on_disk(tmp_path: Path, compiled: list[str]) -> None:
    _heatmap(tmp_path, performance="latency")
    assert compiled
    assert not list(tmp_path.iterdir())
