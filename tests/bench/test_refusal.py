"""What is wrong is never timed: kernels broken on purpose, in the suite's own groups and through pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from suite import attention, ddim, groups, peaks
from suite.attention import AttentionShape, attention_group
from suite.ddim import ddim_group
from suite.groups import Budget, Group, Measured, MissingError, Way, WrongResultError, hopeless, measure
from suite.peaks import peaks_group

from engine import _core

ROOT = Path(__file__).parents[2]
BUDGET = Budget(0.01, least=2, most=2, slowest=60.0)
SHAPE = AttentionShape(1, 5, 7, 32, 64)
ENGINE = ("engine float32",)


def _count_calls(monkeypatch, name: str, spoil) -> list[int]:
    """Let the kernel's results go through ``spoil``; the list grows with each call."""
    calls: list[int] = []
    kernel = getattr(_core, name)

    def broken(*arguments, **options):
        calls.append(1)
        return spoil(kernel(*arguments, **options), *arguments)

    monkeypatch.setattr(_core, name, broken)
    return calls


def _attention_off_by_little(_, q, k, v, out, *rest):
    out[0, 2, 3, 5] += 1e-3


def _attention_left_out(_, q, k, v, out, *rest):
    # One pixel was never written.
    out[0, 0, 0] = np.nan


@pytest.mark.parametrize("spoil", [_attention_off_by_little, _attention_left_out])
def test_a_broken_attention_is_not_timed(monkeypatch, spoil):
    group = attention_group(SHAPE)
    calls = _count_calls(monkeypatch, "criss_cross_attention", spoil)
    found = measure(group, ENGINE, BUDGET)
    assert found.timings == {}
    assert "is wrong" in found.refused["engine float32"]
    assert "not timed" in found.refused["engine float32"]
    assert len(calls) == 1


def test_a_broken_ddim_update_is_not_timed(monkeypatch):
    def spoil(_, x_t, x_0, estimate, change, *rest):
        change[0, 0, 0, 0] += 1e-4

    calls = _count_calls(monkeypatch, "ddim_update", spoil)
    found = measure(ddim_group((1, 16, 4, 5)), ENGINE, BUDGET)
    assert found.timings == {}
    assert list(found.refused) == ["engine float32"]
    assert len(calls) == 1


def test_a_broken_find_peaks_is_not_timed(monkeypatch):
    calls = _count_calls(monkeypatch, "find_peaks", lambda found, *_: (found[0][:-1], found[1][:-1]))
    found = measure(peaks_group(20, 30, 5), ENGINE, BUDGET)
    assert found.timings == {}
    assert "other peaks" in found.refused["engine float32"]
    assert len(calls) == 1


def test_whole_kernels_are_timed():
    for group in (attention_group(SHAPE), ddim_group((1, 16, 4, 5)), peaks_group(20, 30, 5)):
        found = measure(group, ENGINE, BUDGET)
        assert not found.refused
        assert found.timings["engine float32"].percentile(50) > 0


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        (attention_group(SHAPE), attention.LABELS),
        (ddim_group((1, 16, 4, 5)), ddim.LABELS),
        (peaks_group(20, 30, 5), peaks.LABELS),
    ],
    ids=["attention", "ddim", "peaks"],
)
def test_what_users_would_write_computes_the_same(group, labels):
    """Else they would be straw men."""
    found = measure(group, [label for label in labels if "cuda" not in label], BUDGET)
    assert found.refused == {}
    assert len(found.timings) >= 2


def test_the_others_are_timed_when_one_is_wrong_missing_slow_or_fails():
    def missing():
        raise MissingError("no such library")

    def failing():
        raise ValueError("out of sorts")

    def check(label, output):
        if output != 1:
            raise WrongResultError("wrong")

    closed: list[str] = []

    def way(name, value, stint=None):
        return lambda: Way(lambda: value, stint, lambda: closed.append(name))

    ways = {
        "right": way("right", 1),
        "wrong": way("wrong", 2),
        "slow": way("slow", 1, lambda times: 61e3 * times),
        "missing": missing,
        "failing": failing,
    }
    found = measure(Group("g", "c", ways, check), list(ways), BUDGET)
    assert list(found.timings) == ["right"]
    assert found.refused == {"wrong": "wrong", "failing": "it fails: ValueError: out of sorts"}
    assert found.missing["missing"] == "no such library"
    assert "61.0 s" in found.missing["slow"]
    assert closed == ["right", "wrong", "slow"]


def test_a_way_whose_first_call_alone_is_slow_is_timed(monkeypatch):
    monkeypatch.setattr(groups, "_LONG", 0.0)
    ways = {"compiles": lambda: Way(lambda: time.sleep(0.02), lambda times: 1.0 * times)}
    found = measure(Group("g", "c", ways, lambda label, output: None), ["compiles"], Budget(0.01, slowest=0.01))
    assert found.timings["compiles"].percentile(50) == 1.0
    assert not found.missing


def test_ways_that_take_many_times_as_long_are_known_afterwards():
    ways = {
        name: lambda length=length: Way(lambda: 1, lambda times: length * times)
        for name, length in {"fast": 5.0, "slow": 95.0, "hopeless": 105.0}.items()
    }
    found = measure(Group("g", "64x48", ways, lambda label, output: None), list(ways), BUDGET)
    assert hopeless(found) == {"hopeless": "it took 21 times as long as the fastest at 64x48"}
    assert hopeless(Measured(found.group, {}, {}, {})) == {}


# A plugin that breaks the kernel before the suite sees it.
_PLUGIN = """
from engine import _core
whole = _core.criss_cross_attention
def broken(q, k, v, out, threads=0):
    whole(q, k, v, out, threads)
    out *= 1.01 if out.dtype == "float32" else 2
_core.criss_cross_attention = broken
"""


def test_pytest_fails_on_a_broken_kernel_and_reports_no_time_of_it(tmp_path):
    (tmp_path / "broken_kernel.py").write_text(_PLUGIN)
    results = tmp_path / "results.json"
    command = [
        sys.executable,
        "-P",
        "-c",
        "import sys, pytest; sys.path.append(sys.argv.pop(1)); sys.exit(pytest.main())",
    ]
    selected = ["bench/test_kernels.py", "-k", "attention and 6x8 and (engine or bmm) and float32", "--quick"]
    done = subprocess.run(
        [*command, str(tmp_path), "-p", "broken_kernel", *selected, "--results", str(results)],
        # What this run of the tests was given is not for that one.
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "REFUSED, NOT TIMED: criss_cross_attention 1x6x8, D 32, C 192: engine float32" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
    text = results.read_text()
    assert '"way": "bmm and merge, PyTorch float32"' in text
    assert '"way": "engine float32"' not in text
