"""The command for a machine with a GPU, up to where arithmetic begins: on a driver whose kernels do nothing."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import first_light
import pytest
from backends.cuda.fake_driver import FakeDriver
from light import kernel_times, network_times, oracle, replay, whole
from light.cubins import load_all
from light.report import Report

from engine.bundle.bundle import load_bundle
from engine.bundle.cubins import load_cubins

ROOT = Path(__file__).parents[2]
_SCALARS = {"i32": ctypes.c_int32, "fp32": ctypes.c_float}


@pytest.fixture
def driver():
    """Every function of the bundle's cubins, none of which writes anything."""
    made = FakeDriver()
    for entry in load_cubins(load_bundle("default").path).entries:
        types = [_SCALARS.get(kind, ctypes.c_uint64) for _, kind in entry["arguments"]]
        made.kernels[entry["entry"]] = ([*types, *[ctypes.c_uint64] * 2], lambda *_: None)
    yield made
    made.assert_clean()


def _names(report: Report, is_right: bool) -> list[str]:
    return [row["what"] for row in report.rows if row["ok"] == is_right]


def test_every_cubin_of_the_architecture_is_loaded(driver) -> None:
    report = Report()
    load_all(report)
    assert _names(report, False) == []
    files = [x["file"] for x in load_cubins(load_bundle("default").path).entries if x["arch"] == 90]
    assert _names(report, True)[1:] == files
    assert driver.names().count("cuModuleGetFunction") == len(files)


def test_kernels_that_write_nothing_are_found_out(driver) -> None:
    """Each of them, at each of five shapes: what they should have filled is NaN."""
    report = Report()
    oracle.compare_all(report, "float16")
    assert _names(report, True) == []
    assert len(report.rows) == 5 * (4 + len(oracle.attention_sizes(load_bundle("default"))))
    assert all("times what is allowed" in row["problem"] for row in report.rows)
    # Each has launched what it would launch.
    assert {name for name, *_ in driver.launches} == set(driver.kernels)


def test_replays_are_compared_with_the_plain_run(driver) -> None:
    report = Report()
    replay.replay(report, replays=3, size=(3, 5))
    # NaN is not even equal to itself.
    assert ["3 of 3 replays differ" in row["problem"] for row in report.rows] == [True, True]
    assert driver.names().count("cuGraphLaunch") == 6


def test_every_way_of_a_kernel_is_timed(driver, monkeypatch) -> None:
    """PyTorch's formulas run on the CPU, whose time nobody asks for here."""
    monkeypatch.setattr(kernel_times, "time_call", lambda call: {"shape": len(call()) > 0})
    monkeypatch.setattr(kernel_times.torch, "compile", lambda call: call)
    report = Report()
    kernel_times.time_kernels(report, kernel_times.Plan(device="cpu", maps=((3, 5),), calls=1, stints=2))
    assert _names(report, False) == []
    ways = [row["what"].rpartition(": ")[2] for row in report.rows]
    assert ways == ["engine", "PyTorch eager", "torch.compile"] * (len(report.rows) // 3)
    # The simulated device takes 1.5 ms for the 50 runs of a graph.
    assert all(row["p50_ms"] == 0.03 for row in report.rows if row["what"].endswith("engine"))


def test_whole_counts_are_compared_with_the_cpu(monkeypatch) -> None:
    monkeypatch.setattr(whole, "_REPLAYS", 1)
    monkeypatch.setitem(whole.TYPES, "torch", ("float32",))
    report = Report()
    whole.count_by(report, "torch", device="cpu")
    (row,) = report.rows
    assert row["ok"], row
    assert (row["heatmap"], row["count"]) == (0.0, row["on_the_cpu"])


def test_a_result_that_is_far_from_the_cpu_s_is_told(monkeypatch) -> None:
    monkeypatch.setattr(whole, "_REPLAYS", 1)
    monkeypatch.setitem(whole.TYPES, "torch", ("float32", "bfloat16"))
    monkeypatch.setitem(whole.CONFORMANCE, "bfloat16", whole.CONFORMANCE["float32"])
    report = Report()
    whole.count_by(report, "torch", device="cpu")
    assert _names(report, True) == ["torch, float32"]
    assert "further from the CPU's than the type explains" in report.rows[1]["problem"]


def test_without_a_gpu_each_part_says_why_and_the_next_one_goes_on(tmp_path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "first_light.py"), "--only", "cubins", "replay", "count times"]
    run = subprocess.run([*command, "--out", "found.json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["parts"]) == ["cubins", "replay", "count times"]
    assert found["parts"]["cubins"]["ended"] == "ended with status 1"
    for part in found["parts"].values():
        problems = part["output"] + "".join(row["problem"] for row in part["rows"] if not row["ok"])
        assert "no NVIDIA driver" in problems or "no CUDA device" in problems
    assert set(found["machine"]) == {"python", "versions", "gpus", "commit"}
    assert "replay: 0 of 2 right, ended" in run.stdout


def test_a_part_that_does_not_end_is_stopped(monkeypatch, tmp_path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(
        "import subprocess, sys, time\n"
        'open(sys.argv[4], \'w\').write(\'{"what": "first", "ok": true}\\n\')\n'
        "print('began', flush=True)\n"
        # As a compiler that it has started, with the same output.
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(first_light, "__file__", str(script))
    part = first_light.run_part("cubins", 6)
    assert part["ended"] == "stopped after 6 s"
    assert part["seconds"] < 20
    assert part["rows"] == [{"what": "first", "ok": True}]
    assert part["output"] == "began\n"
    assert not first_light.is_well(part)
    assert first_light.run_part("cubins", 3)["ended"] == "left out: no time is left"


def test_results_stay_below_a_megabyte() -> None:
    row: dict[str, Any] = {"what": "x", "ok": False, "problem": "y" * 2000}
    part = {"ended": "ended", "seconds": 1.0, "rows": [row] * 400, "output": "z" * 4000}
    results = {"machine": {}, "parts": {str(n): part for n in range(9)}}
    text = first_light.to_json(results)
    assert len(text) < 1_000_000
    assert json.loads(text)["machine"] == {}


def test_both_halves_of_the_network_are_timed(monkeypatch) -> None:
    """Each half runs once, on the CPU: it is its times that nobody asks for here."""
    ran = []
    monkeypatch.setattr(network_times, "time_call", lambda call: ran.append(call()) or {})
    monkeypatch.setattr(network_times.torch, "compile", lambda call: call)
    report = Report()
    network_times.time_network(report, device="cpu", size=(64, 96))
    assert _names(report, False) == []
    assert len(ran) == len(report.rows) == 8
