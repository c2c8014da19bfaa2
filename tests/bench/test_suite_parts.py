"""Ceilings, networks, errors and exponents of the suite, against known values."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from suite import networks
from suite.accuracy import PEERS, our_errors, summarise, with_errors
from suite.ceilings import Ceilings, measure_ceilings
from suite.counts import limits, picture
from suite.peers import RUNTIMES, peer_case
from suite.plan import Plan
from suite.published import PUBLISHED
from suite.results import Results, Row
from suite.summary import exponents
from tolerances import CONFORMANCE

from engine.bundle.bundle import load_bundle
from engine.cli.variants import ANY_TYPE

PLAN = Plan(True, ("cpu",), 2)


@pytest.mark.parametrize(
    ("name", "millions"), [("MCNN", 0.13), ("CSRNet", 16.26), ("DM-Count", 21.5)], ids=["MCNN", "CSRNet", "DM-Count"]
)
def test_networks_have_the_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        network = networks.NETWORKS[name]()
    assert sum(x.numel() for x in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("dtype", CONFORMANCE)
def test_a_label_has_the_limits_of_its_type(dtype):
    """bfloat16 has float16 in its name."""
    for label in (f"openvino {dtype} latency", f"plain OpenVINO {dtype}", f"torch {dtype}"):
        found, expected = limits(label), CONFORMANCE[dtype]
        assert (found.count, found.heatmap) == (expected.count, expected.heatmap)
    assert limits("ONNX Runtime") == ANY_TYPE


def test_csrnet_has_the_published_cost():
    """206 GMAC at 576 x 864 (ZIP, 2025, table of costs)."""
    assert _gmac(networks.csrnet, 576, 864) == pytest.approx(206, rel=0.01)


def test_zip_n_does_as_much_arithmetic_as_it_is_known_to():
    """3.36 M parameters, and 24.73 GMAC for a picture of 1920 x 1080 (its repository's table)."""
    # 1088 is the next multiple of 32.
    assert _gmac(networks.ZIPNano, 1088, 1920) == pytest.approx(24.73, rel=0.01)
    assert sum(x.numel() for x in networks.ZIPNano().parameters()) == pytest.approx(3.36e6, rel=0.002)


def _gmac(build, height: int, width: int) -> float:
    with torch.device("meta"):
        network, image = build().eval(), torch.zeros(1, 3, height, width)
    # Not at the top: it imports Triton, which other tests first tell to interpret kernels.
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(image)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("name", "shape"),
    [("MCNN", (1, 16, 24)), ("CSRNet", (1, 8, 12)), ("DM-Count", (1, 8, 12)), ("P2PNet", (16, 8, 12)),
     ("MobileCount x2", (1, 64, 96)), ("ZIP-N", (1, 4, 6))],
)  # fmt: skip
@torch.inference_mode()
def test_networks_have_the_published_strides(name, shape):
    out = networks.build(name)(torch.zeros(2, 3, 64, 96))
    assert out.shape == (2, *shape)
    assert torch.isfinite(out).all()


def test_every_network_has_its_errors_and_its_runtimes():
    assert set(PUBLISHED) == set(networks.NETWORKS)
    labels = peer_case(PLAN).labels
    assert {f"{name}, {runtime}" for name in PUBLISHED for runtime in RUNTIMES} < set(labels)


def test_the_roof_is_the_nearer_of_the_two():
    known = Ceilings(fma=100.0, dot={"float32": 80.0, "bfloat16": 400.0}, copies={10**3: 50.0, 10**6: 10.0})
    # Bound by arithmetic, by a small copy, by a large one.
    assert known.roof(50.0, 1.0, 2e3, "float32") == pytest.approx(50)
    assert known.roof(1.0, 25.0, 2e3, "float32") == pytest.approx(50)
    assert known.roof(1.0, 2.5, 2e6, "float32") == pytest.approx(25)
    assert known.roof(100.0, 1.0, 2e3, "bfloat16") == pytest.approx(25)
    assert known.roof(0.0, 5.0, 2e6, "float32") == pytest.approx(50)
    # With half of the roof unknown, nothing is claimed.
    assert Ceilings(copies={1: 1.0}).roof(5.0, 0.1, 2, "float32") is None
    assert Ceilings().roof(0.0, 1.0, 1.0, "float32") is None


def test_measured_ceilings_are_positive_or_say_what_is_missing():
    known = measure_ceilings(0.01, 1, largest=1 << 21)
    assert known.fma is not None or "FMA loop" in known.missing
    assert all(rate > 0 and math.isfinite(rate) for rate in (*known.dot.values(), *known.copies.values()))
    assert list(known.copies) == [1 << 18, 1 << 21]


def test_without_a_compiler_the_loop_is_left_out(monkeypatch):
    monkeypatch.setattr("suite.ceilings.shutil.which", lambda name: None)
    known = measure_ceilings(0.01, 1, largest=1 << 21)
    assert known.fma is None
    assert "C++ compiler" in known.missing["FMA loop"]


def _eval_row(part, steps, true, predicted):
    return {"part": part, "steps": steps, "true": true, "predicted": predicted, "file": "/somewhere/private.jpg"}


def test_errors_come_from_the_rows_of_eval(tmp_path):
    bundle = SimpleNamespace(digest="d1", name="m", default_steps=3)
    rows = [_eval_row("part_A_final", None, 100, 90), _eval_row("part_A", None, 10, 14), _eval_row("part_B", 1, 5, 5)]
    summary = summarise(rows, bundle)
    assert summary["steps"]["3"]["A"]["mae"] == 7
    assert summary["steps"]["1"]["B"] == {"mae": 0.0, "error": 0.0, "images": 1}
    # Names of pictures are the data set's.
    assert "private" not in json.dumps(summary)
    file = tmp_path / "accuracy.json"
    file.write_text(json.dumps(summary))
    assert our_errors(bundle, file) == {
        3: {"mae_a": 7.0, "mae_b": None, "split": "held-out"},
        1: {"mae_a": None, "mae_b": 0.0, "split": "held-out"},
    }
    # Measured with another model: not ours.
    assert our_errors(SimpleNamespace(digest="d2"), file) == {}


def test_errors_measured_anew_replace_ours_alone():
    def row(group, way, **columns):
        return Row(group, "1024x768", way, "ms", 1.0, 2.0, 3.0, 5, 0.0, **columns)

    ours = row(PEERS, "ours, 3 steps", steps=3, mae_a=90.0, mae_b=20.0)
    one = row(PEERS, "ours, 1 step", steps=1, mae_a=91.0, mae_b=21.0)
    other = row(PEERS, "CSRNet, torch float32", mae_a=68.2, mae_b=10.6)
    count = row("count", "openvino int8", steps=3)
    renewed = with_errors([ours, one, other, count], {3: {"mae_a": 80.0, "mae_b": 12.0, "split": "test"}})
    measured = replace(ours, mae_a=80.0, mae_b=12.0, split="test")
    assert renewed == [measured, replace(one, mae_a=None, mae_b=None), other, count]


def test_errors_of_the_test_split_come_first_and_cross_validated_ones_second(tmp_path):
    bundle = SimpleNamespace(digest="d1", name="m", default_steps=2)
    summary = summarise([_eval_row("part_A", steps, 10, 4) for steps in (1, 2)], bundle)
    file = tmp_path / "accuracy.json"
    summary["cross_validated"] = {"2": {"A": {"mae": 7.0}, "B": {"mae": 2.0}}}
    file.write_text(json.dumps(summary))
    # One plot has errors of one source: there are none of 1 step.
    assert our_errors(bundle, file) == {2: {"mae_a": 7.0, "mae_b": 2.0, "split": "held-out"}}
    file.write_text(json.dumps({**summary, "test": {"2": {"A": {"mae": 5.0}, "B": {"mae": 1.0}}}}))
    assert our_errors(bundle, file) == {2: {"mae_a": 5.0, "mae_b": 1.0, "split": "test"}}


def test_the_errors_that_are_shown_are_of_the_shipped_model():
    expected = "renew them (docs/benchmarks.md), or, if weights and graphs are the same, its digest in accuracy.json"
    assert our_errors(load_bundle("default")), expected


def test_larger_pictures_have_more_people_not_larger_ones():
    small, large = picture(1024, 768), picture(2100, 1600)
    assert large.shape == (1600, 2100, 3)
    assert np.array_equal(large[:768, :1024], small)
    assert np.array_equal(large[:768, 1024:2048], small[:, ::-1])
    assert picture(100, 70).shape == (70, 100, 3)


def test_exponents_of_known_powers():
    rows = []
    for name, power in (("steps", 0.5), ("people", 2.0)):
        for x in (1, 2, 4, 8):
            p50 = 3.0 * x**power
            rows.append(Row(f"time against {name}", "w", str(x), "ms", p50, p50, p50, 9, 0.0, **{name: x}))
    rows.append(Row("time against pixels", "w", "64", "ms", 1, 1, 1, 9, 0.0, width=64, height=48))
    found = {row.case: row.p50 for row in exponents(Results({}, False, rows))}
    assert found == pytest.approx({"time against steps": 0.5, "time against people": 2.0})


def test_the_oracle_sees_every_person_of_a_drawn_map():
    from suite.peaks import crowd_map

    heatmap = crowd_map(60, 80, 9)
    assert heatmap.shape == (60, 80)
    assert 0 <= heatmap.min() < heatmap.max() <= 1
    assert np.array_equal(heatmap, crowd_map(60, 80, 9))


def test_no_path_of_this_machine_is_written(tmp_path):
    from suite.machine import describe

    text = json.dumps(describe())
    assert str(Path.home()) not in text
    assert {"commit", "cpu", "cores", "gpus", "python", "versions"} <= set(json.loads(text))
