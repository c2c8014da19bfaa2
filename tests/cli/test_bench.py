"""``crowd bench``: what it times, what it refuses, and what it prints, with stand-in and real counters."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.cli import main
from engine.cli.bench import draw_crowd
from engine.cli.variants import REFERENCE, Variant, all_variants, disagreement
from engine.diffusion.head_map import head_map
from engine.errors import BackendError, NotFiniteError


def _result(count: int = 20) -> SimpleNamespace:
    points = np.random.default_rng(0).uniform(0, 96, (20, 2))
    return SimpleNamespace(count=count, heatmap=head_map(points, 48, 48, 2))


@pytest.fixture
def counters(monkeypatch):
    """Stand-ins by variant: what each counts; one that is not listed does not run. Ctrl-C comes in a counter's call."""
    made: dict[str, SimpleNamespace] = {}

    def install(results: dict[str, Any], interrupted: int = 0) -> dict[str, SimpleNamespace]:
        def counter(self, model="default", **options):
            if str(self) not in results:
                raise BackendError(f"{self} is not on this machine")
            stand_in = SimpleNamespace(calls=0, closed=False, options=options)

            def count(image, steps):
                stand_in.calls += 1
                if stand_in.calls == interrupted:
                    raise KeyboardInterrupt
                result = results[str(self)]
                if isinstance(result, Exception):
                    raise result
                return result

            stand_in.count = count
            stand_in.__enter__ = lambda: stand_in
            made[str(self)] = stand_in
            return _Managed(stand_in)

        monkeypatch.setattr(Variant, "counter", counter)
        return made

    return install


class _Managed:
    def __init__(self, stand_in):
        self.count, self._stand_in = stand_in.count, stand_in

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stand_in.closed = True


def _bench(*arguments) -> int:
    return main(["bench", "--seconds", "0.01", "--size", "32", "24", *map(str, arguments)])


def test_what_agrees_is_timed_and_what_does_not_is_named(counters, capsys, tmp_path):
    made = counters({
        "torch float32": _result(), "openvino float32": _result(21), "openvino bfloat16": _result(26),
    })  # fmt: skip
    assert _bench("--json", tmp_path / "times.json", "--steps", 3) == 1
    out = capsys.readouterr().out
    assert "openvino float32, 3 steps" in out
    assert "NOT TIMED, AS IT IS WRONG: openvino bfloat16, 3 steps: it counts 26 people, the reference 20" in out
    assert "not here: openvino int8: openvino int8 is not on this machine" in out
    # Looked at once, and never again.
    assert made["openvino bfloat16"].calls == 1
    assert made["openvino float32"].calls > 3
    assert all(x.closed for x in made.values())
    data = json.loads((tmp_path / "times.json").read_text())
    assert [(row["backend"], row["compute_type"], row["count"]) for row in data["rows"]] == [
        ("torch", "float32", 20), ("openvino", "float32", 21),
    ]  # fmt: skip
    assert (data["reference"], data["width"], data["height"]) == ("torch float32", 32, 24)
    assert list(data["refused"]) == ["openvino bfloat16, 3 steps"]
    assert all(0 <= row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"] for row in data["rows"])


def test_numbers_that_are_not_finite_are_wrong_and_not_missing(counters, capsys):
    broken = NotFiniteError("the network gave numbers that are not finite")
    counters({"torch float32": _result(), "openvino float32": broken})
    assert _bench() == 1
    assert "NOT TIMED, AS IT IS WRONG: openvino float32: the network gave" in capsys.readouterr().out


@pytest.mark.parametrize("call", [1, 2, 4])
def test_ctrl_c_closes_what_was_loaded_and_leaves_the_old_file(counters, capsys, tmp_path, call):
    made = counters({"torch float32": _result(), "openvino float32": _result()}, interrupted=call)
    (tmp_path / "times.json").write_text("old")
    assert _bench("--json", tmp_path / "times.json", "--steps", 3) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "crowd: interrupted"
    assert all(x.closed for x in made.values())
    assert [(x.name, x.read_text()) for x in tmp_path.iterdir()] == [("times.json", "old")]


def test_without_the_reference_the_first_that_runs_is_it(counters, capsys):
    counters({"openvino float32": _result(), "openvino bfloat16": _result()})
    assert _bench() == 0
    assert "agreed with openvino float32 before it was timed" in capsys.readouterr().out


def test_where_nothing_runs_it_fails_and_says_why(counters, capsys):
    counters({})
    assert _bench() == 1
    assert "torch float32 is not on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["--seconds", "0"], ["--size", "0", "3"], ["--size", "40000", "40000"], ["nowhere.jpg"]], ids=str
)
def test_wrong_arguments(counters, capsys, wrong):
    counters({"torch float32": _result()})
    assert main(["bench", *wrong]) in (1, 2)
    assert capsys.readouterr().err.startswith("crowd: ")


def test_a_real_count(capsys):
    assert main(["bench", "--size", "64", "48", "--steps", "1", "--seconds", "0.01"]) == 0
    out = capsys.readouterr().out
    assert "openvino float32, 1 steps" in out
    assert "64 x 48 pixels" in out


def test_disagreement():
    assert disagreement(_result(), _result()) is None
    assert disagreement(_result(21), _result(20)) is None
    assert "counts 22" in str(disagreement(_result(22), _result(20)))
    assert disagreement(_result(104), _result(100)) is None
    broken = _result()
    broken.heatmap[0, 0] = np.nan
    assert "not finite" in str(disagreement(broken, _result()))


@pytest.mark.parametrize("wrong", [np.zeros_like, np.fliplr, lambda x: np.roll(x, 1, axis=0), lambda x: 0.5 * x])
def test_a_wrong_map_with_the_right_count_disagrees(wrong):
    """Few cells of a map are not zero: a mean over all of them would let each of these pass."""
    reference, result = _result(), _result()
    result.heatmap = wrong(reference.heatmap)
    assert "heat map differs" in str(disagreement(result, reference))
    # A rounding does not, nor noise where nobody is.
    result.heatmap = reference.heatmap * np.float32(1 + 2**-8)
    assert disagreement(result, reference) is None
    nobody, noise = SimpleNamespace(count=0, heatmap=np.zeros((48, 48))), np.random.default_rng(0).random((48, 48))
    assert disagreement(SimpleNamespace(count=0, heatmap=1e-3 * noise), nobody) is None
    assert "heat map differs" in str(disagreement(SimpleNamespace(count=0, heatmap=0.1 * noise), nobody))


def test_the_reference_comes_first_and_nothing_comes_twice():
    variants = list(all_variants(["cpu", "cuda"]))
    assert variants[0] == REFERENCE
    assert len(variants) == len(set(variants))
    assert Variant("tensorrt", "float16", "cuda") in variants
    # Neither could ever run.
    assert Variant("tensorrt", "float16", "cpu") not in variants
    assert Variant("openvino", "float32", "cuda") not in variants


def test_the_drawn_crowd_is_the_same_everywhere():
    image = draw_crowd(400, 300)
    assert image.shape == (300, 400, 3)
    assert image.dtype == np.uint8
    # Heads are darker than the ground.
    assert (image.max(axis=-1) < 100).mean() > 0.01
    # Drawn in integers alone: no machine rounds it otherwise.
    digest = "8c6ecf70c040d48e0fcf7cfec681b613e0512117705887ce1d1faf9a0da026db"
    assert hashlib.sha256(image.tobytes()).hexdigest() == digest
