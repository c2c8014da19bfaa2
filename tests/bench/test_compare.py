"""Two result files: the same commit has no regression, a slower one is named, noise is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from compare import changes, main
from suite.results import Results, Row, read, write

MACHINE = {"commit": "abc", "cpu": "A CPU", "cores": 2, "gpus": []}


def _run(seed: int = 0, factor: dict[str, float] | None = None, **options) -> Results:
    """A run of 40 figures with 3 % of noise each, and a machine that drifts by 2 %."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(40):
        p50 = (i + 1) * rng.normal(1, 0.01) * (factor or {}).get(f"way {i}", 1)
        rows.append(Row("count", "640x480", f"way {i}", "ms", p50 * 0.985, p50, p50 * 1.015, 20, 0.03))
    rows.append(Row("ceiling", "copy", "float32", "GB/s", 10, 10, 10, 1, 0.0))
    return Results(**{"machine": MACHINE, "quick": False, "rows": rows, "anchors": [3.0, 3.02, 3.04, 3.06], **options})


def _compare(tmp_path, old: Results, new: Results) -> int:
    write(old, tmp_path / "old.json")
    write(new, tmp_path / "new.json")
    return main([str(tmp_path / "old.json"), str(tmp_path / "new.json")])


@pytest.mark.parametrize("seed", range(1, 6))
def test_two_runs_of_one_commit_have_no_regression(tmp_path, capsys, seed):
    assert _compare(tmp_path, _run(), _run(seed)) == 0
    assert "SLOWER OR LARGER: 0" in capsys.readouterr().out


def test_a_slower_way_is_named_and_a_faster_one_too(tmp_path, capsys):
    assert _compare(tmp_path, _run(), _run(1, {"way 7": 1.25, "way 9": 0.7})) == 1
    out = capsys.readouterr().out
    assert "SLOWER OR LARGER: 1\n  count: 640x480: way 7: +" in out
    assert "faster or smaller: 1\n  count: 640x480: way 9: -" in out


def test_noise_and_drift_widen_the_limit(tmp_path):
    slower = _run(1, {"way 7": 1.25})
    (change,) = [x for x in changes(_run(), slower) if x.row.way == "way 7"]
    assert change.is_regression
    noisy = dataclasses.replace(change.row, noise=0.3)
    slower.rows = [noisy if row.way == "way 7" else row for row in slower.rows]
    assert not any(x.is_regression for x in changes(_run(), slower))
    unsteady = _run(1, {"way 7": 1.25}, anchors=[3.0, 3.0, 4.0, 4.0])
    assert not any(x.is_regression for x in changes(_run(), unsteady))
    # The whole machine was slower, by its own measure.
    throttled = _run(1, {f"way {i}": 1.3 for i in range(40)}, anchors=[3.9, 3.93, 3.95, 3.98])
    assert not any(x.is_regression for x in changes(_run(), throttled))


def test_a_larger_rate_is_no_regression(tmp_path):
    faster = _run()
    faster.rows[-1] = dataclasses.replace(faster.rows[-1], p20=20, p50=20, p80=20)
    assert _compare(tmp_path, _run(), faster) == 0


def test_what_is_newly_wrong_fails(tmp_path, capsys):
    assert _compare(tmp_path, _run(), _run(refused={"count: way 3": "it counts 7"})) == 1
    assert "NOW WRONG: count: way 3: it counts 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [({"quick": True}, "quick"), ({"machine": {**MACHINE, "cores": 64}}, "different machines: cores is 2 and 64")],
)
def test_what_cannot_be_compared_is_refused(tmp_path, capsys, options, words):
    assert _compare(tmp_path, _run(), _run(**options)) == 2
    assert words in capsys.readouterr().err


def test_files_read_back_as_they_were_and_others_are_refused(tmp_path, capsys):
    run = _run(left_out={"count: tensorrt": "no driver"})
    write(run, tmp_path / "run.json")
    again = read(tmp_path / "run.json")
    assert [row.key for row in again.rows] == [row.key for row in run.rows]
    assert again.rows[3].p50 == pytest.approx(run.rows[3].p50, rel=1e-3)
    assert (again.machine, again.left_out, again.drift) == (
        run.machine,
        run.left_out,
        pytest.approx(run.drift, rel=1e-2),
    )
    header, *lines = (tmp_path / "run.csv").read_text().splitlines()
    assert header.startswith('# {"commit": "abc"')
    assert len(lines) == 1 + len(run.rows)
    (tmp_path / "other.json").write_text("[1]")
    assert main([str(tmp_path / "other.json"), str(tmp_path / "run.json")]) == 2
    assert "no result file of this suite" in capsys.readouterr().err
