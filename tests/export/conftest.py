"""A small random network whose every part matters, and its exported bundle."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from int8_bundle import GENEROUS, copy_bundle, noise_pictures

from engine.bundle.bundle import Bundle, load_bundle
from engine.config import CountingRule, ModelConfig
from engine.export.bundle_writer import export_bundle
from engine.export.checkpoint import prepare
from engine.export.quantize import QuantizeReport, quantize_bundle
from engine.model.checkpoint import save_model
from engine.model.network import CrowdNetwork

SMALL = ModelConfig(
    widths=(32, 32, 32, 32, 32),
    depths=(0, 0, 1, 1, 0),
    features=32,
    attention_dim=8,
    decoder_width=32,
    time_frequencies=4,
    own_rate=True,
)


@pytest.fixture(scope="session")
def trained() -> CrowdNetwork:
    """As after training: no weight is zero, and no batch norm is the identity."""
    torch.manual_seed(0)
    network = CrowdNetwork(SMALL).eval()
    for name, x in network.state_dict().items():
        if not x.is_floating_point():
            continue
        if name.endswith("running_var"):
            x.uniform_(0.5, 2)
        elif not x.any():
            x.normal_(0, 0.2)
        elif ".norm." in name:
            x.add_(torch.randn_like(x) * 0.3)
        elif name.endswith("query_key_value.weight"):
            x.mul_(3)
    for half in (network.encoder, network.decoder):
        half.attention.gamma.data.fill_(0.8)
    return network


@pytest.fixture(scope="session")
def network(trained: CrowdNetwork) -> CrowdNetwork:
    """What the bundle should compute."""
    return prepare(copy.deepcopy(trained))


@pytest.fixture(scope="session")
def checkpoint(trained: CrowdNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.pt"
    save_model(trained, {1: {"low": 0.2, "high": 0.4}, 3: {"low": 0.3, "high": 0.3}}, path)
    return path


@pytest.fixture(scope="session")
def bundle(checkpoint: Path) -> Bundle:
    bundle = load_bundle(export_bundle(checkpoint, checkpoint.parent / "small", "small", default_steps=3))
    assert bundle.counting == {1: CountingRule(0.2, 0.4), 3: CountingRule(0.3, 0.3)}
    return bundle


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise_pictures(tmp_path_factory.mktemp("pictures") / "data")


@pytest.fixture(scope="session")
def pictures(data: Path) -> list[Path]:
    return sorted((data / "images").iterdir())


@pytest.fixture(scope="session")
def report(bundle: Bundle, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> QuantizeReport:
    """The small network with all but two convolutions in int8."""
    folder = copy_bundle(bundle, tmp_path_factory.mktemp("quantized") / "small")
    return quantize_bundle(folder, pictures, limit=GENEROUS, keep_float=["merge*", "rate.out.conv"])


@pytest.fixture(scope="session")
def quantized(report: QuantizeReport) -> Bundle:
    return report.bundle
