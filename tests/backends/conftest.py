"""A small bundle with everything for a GPU, a machine with a simulated one, and a cache with an engine in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from backends.cached_engine import ENGINE, FACTS
from backends.simulated_machine import Machine

from engine.backends.compiled_cache import CompiledCache
from engine.bundle.bundle import Bundle, load_bundle
from engine.config import ModelConfig

# The smallest attention that the kernels take.
SMALL = ModelConfig(
    widths=(32, 32, 32, 32, 32),
    depths=(0, 0, 1, 1, 0),
    features=32,
    attention_dim=16,
    decoder_width=32,
    time_frequencies=4,
)


@pytest.fixture(scope="session")
def gpu_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Random weights, none of them zero; segments in both reduced types; kernels for 9.0."""
    if not find_spec("triton"):
        pytest.skip("kernels are compiled by Triton, which exists on Linux alone")
    from engine.export.bundle_writer import export_bundle
    from engine.model.checkpoint import save_model
    from engine.model.network import CrowdNetwork

    torch.manual_seed(1)
    network = CrowdNetwork(SMALL).eval()
    for name, x in network.state_dict().items():
        if x.is_floating_point() and not x.any():
            x.normal_(0, 0.2)
        elif name.endswith("query_key_value.weight"):
            x.mul_(3)
    for half in (network.encoder, network.decoder):
        half.attention.gamma.data.fill_(0.8)
    folder = tmp_path_factory.mktemp("gpu")
    checkpoint = folder / "best.pt"
    save_model(network, {1: {"low": 0.5, "high": 0.6}, 3: {"low": 0.5, "high": 0.6}}, checkpoint)
    path = export_bundle(checkpoint, folder / "bundle", "small", default_steps=3)
    # In a process of its own: this one may be set to interpret kernels. Away from the sources, which lack what is
    # compiled.
    command = [sys.executable, "-m", "engine.export", "cubins", str(path), "--arch", "90"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return load_bundle(path)


@pytest.fixture
def machine(gpu_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Machine]]:
    """Makes the machine that the engine then finds; in the end nothing may be left on it."""
    made: list[Machine] = []
    # Never the user's own.
    monkeypatch.setenv("CROWD_CACHE_DIR", str(tmp_path / "engines"))

    def make(**options: Any) -> Machine:
        made.append(Machine(gpu_bundle, tmp_path / "engines", **options))
        monkeypatch.setattr("engine.backends.tensorrt.requirements.load_tensorrt", lambda: made[-1].library)
        return made[-1]

    yield make
    for each in made:
        each.gpu.assert_clean()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "engines"


@pytest.fixture
def stored(folder: Path) -> Path:
    CompiledCache(folder).store("encoder.0.float16", FACTS, ENGINE)
    (file,) = folder.iterdir()
    return file
