"""Two engines timed in turns: the checks before the times, and the whole script against the same environment twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from against import Pairs, Worker, WorkerError, compare
from PIL import Image

ROOT = Path(__file__).parents[2]


class Scripted:
    """Answers as an engine would, with these milliseconds for its counts and one hash of points for each."""

    def __init__(self, times: list[float], points: list[int]):
        self.times, self.points = iter(times), iter(points)

    def ask(self, **task: Any) -> dict[str, Any]:
        assert task["do"] == "count"
        return {"ms": next(self.times), "points": next(self.points), "count": 1}


def test_rounds_are_paired_and_the_first_is_left_out() -> None:
    old, new = Scripted([100, 2, 4, 6, 8], [1, 1, 1, 1, 1]), Scripted([100, 1, 2, 6, 2], [5, 5, 5, 5, 5])
    pairs = compare(old, new, "float32", pictures=1, rounds=4)
    np.testing.assert_array_equal(pairs.old, [2, 4, 6, 8])
    np.testing.assert_array_equal(pairs.new, [1, 2, 6, 2])
    # The ratios are 0.5, 0.5, 1 and 0.25.
    assert "new / old 0.500 (0.400 to 0.700), 4 rounds" in str(pairs)


def test_the_time_of_several_pictures_is_their_mean() -> None:
    old, new = Scripted([9, 9, 2, 4], [1, 2, 1, 2]), Scripted([9, 9, 1, 1], [3, 4, 3, 4])
    pairs = compare(old, new, "float32", pictures=2, rounds=1)
    assert (pairs.old.tolist(), pairs.new.tolist()) == ([3.0], [1.0])


def test_an_engine_whose_points_change_is_not_timed() -> None:
    with pytest.raises(WorkerError, match="other points than before"):
        compare(Scripted([1] * 3, [1] * 3), Scripted([1] * 3, [1, 1, 2]), "float32", pictures=1, rounds=2)


def test_an_engine_that_fails_says_why(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 40)).save(picture)
    worker = Worker(sys.executable, [picture])
    with pytest.raises(WorkerError, match=r"BundleError.*manifest\.json"):
        worker.ask(do="counter", type="float32", threads=1, model=str(tmp_path), performance="latency")
    worker.close()
    (tmp_path / "python").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(WorkerError, match="ended with status 3"):
        Worker(str(tmp_path / "python"), [picture])


def test_an_environment_against_itself(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.open(ROOT / "examples" / "pictures" / "images" / "pedestrians.jpg").crop((0, 0, 160, 96)).save(picture)
    command = [sys.executable, "-P", ROOT / "bench" / "against.py", sys.executable, picture]
    command += ["--types", "float32", "--rounds", "3", "--threads", "1", "--clock", "processor"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 rounds" in run.stdout


@pytest.mark.parametrize("clock", ["wall", "processor"])
def test_the_clock_is_passed_on(clock: str) -> None:
    asked = []

    class Noting(Scripted):
        def ask(self, **task: Any) -> dict[str, Any]:
            asked.append(task["clock"])
            return super().ask(**task)

    compare(Noting([1] * 2, [1] * 2), Noting([1] * 2, [1] * 2), "float32", pictures=1, rounds=1, clock=clock)
    assert asked == [clock] * 4


def test_a_ratio_is_of_pairs_not_of_medians() -> None:
    assert "new / old 2.000" in str(Pairs(np.array([1.0, 10.0, 1.0]), np.array([2.0, 20.0, 2.0])))
