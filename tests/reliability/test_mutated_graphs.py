"""The engine's reader of ONNX files against the package ``onnx``, on files that a stranger could have damaged."""

from __future__ import annotations

import numpy as np
import pytest
from reliability.hostile_graphs import HOSTILE_GRAPHS
from reliability.mutated_graphs import damage, read_by_onnx
from reliability.small_bundle import sound_graphs

from engine.bundle.bundle import WEIGHTS_FILE, load_bundle
from engine.bundle.onnx_file import read_onnx

WEIGHTS = {WEIGHTS_FILE: 5000}


def test_what_is_accepted_is_what_onnx_reads(long_run: bool) -> None:
    """4,000 (100,000) files: names, operators, attributes, shapes, small values, and places in other files."""
    sound = list(sound_graphs().values())
    rng = np.random.default_rng(11)
    count, accepted = 100_000 if long_run else 4_000, 0
    for _ in range(count):
        data = damage(sound, rng)
        try:
            ours = read_onnx(data, WEIGHTS)
        except ValueError:
            continue
        accepted += 1
        assert repr(ours) == repr(read_by_onnx(data)), data.hex()
    print(f"{count} graphs, {accepted} accepted")
    assert count / 10 < accepted < count / 2


@pytest.mark.parametrize("name", HOSTILE_GRAPHS)
def test_hostile_graphs_that_can_be_read(name: str) -> None:
    data, _ = HOSTILE_GRAPHS[name]
    try:
        ours = read_onnx(data, WEIGHTS)
    except ValueError:
        return
    assert repr(ours) == repr(read_by_onnx(data))


def test_the_shipped_graphs() -> None:
    bundle = load_bundle("default")
    weights = {x.name: x.stat().st_size for x in bundle.path.glob("*.safetensors")}
    files = list(bundle.path.glob("*.onnx"))
    assert len(files) > 20
    for file in files:
        data = file.read_bytes()
        assert repr(read_onnx(data, weights)) == repr(read_by_onnx(data)), file.name
