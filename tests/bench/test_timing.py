"""Interleaved timing: whose turn it is, what is counted, and what noise is."""

from __future__ import annotations

import numpy as np
import pytest

from engine.cli.timing import Timing, interleave, wall


class Ways:
    """Stints that take as long as they say, and remember their calls."""

    def __init__(self, **lengths: float):
        self.calls: list[tuple[str, int]] = []
        self.lengths = lengths

    def stints(self):
        def stint(name):
            def run(times: int) -> float:
                self.calls.append((name, times))
                return self.lengths[name] * times

            return run

        return {name: stint(name) for name in self.lengths}


def test_every_way_has_one_turn_in_each_round_in_changing_order():
    ways = Ways(a=100.0, b=200.0, c=300.0)
    found = interleave(ways.stints(), seconds=0.001, least=6, most=6)
    turns = [name for name, _ in ways.calls][-18:]
    rounds = [tuple(turns[i : i + 3]) for i in range(0, 18, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(set(rounds)) > 1
    assert {name: timing.samples for name, timing in found.items()} == {
        "a": (100.0,) * 6, "b": (200.0,) * 6, "c": (300.0,) * 6,
    }  # fmt: skip


def test_short_calls_are_repeated_and_given_per_call():
    ways = Ways(short=0.01, long=60.0)
    found = interleave(ways.stints(), seconds=0.001, least=2, most=2)
    assert found["short"].samples == pytest.approx((0.01, 0.01))
    assert max(times for name, times in ways.calls if name == "short") == 1000
    # Each turn of the short one is led by as many untimed calls; the long one pays none.
    assert [times for name, times in ways.calls if name == "long"] == [1, 1, 1, 1]
    assert [times for name, times in ways.calls if name == "short"] == [1, 1, 1000, 1000, 1000, 1000]


def test_what_is_kept_of_each_stint_is_of_the_timed_ones_where_something_else_leads():
    kept: list[int] = []
    led: list[int] = []

    def stint(times: int) -> float:
        kept.append(times)
        return 5.0 * times

    def lead(times: int) -> float:
        led.append(times)
        return 0.0

    found = interleave({"a": stint}, seconds=0.001, least=3, most=3, lengths={"a": 5.0}, leads={"a": lead})
    assert kept == led == [2, 2, 2]
    assert found["a"].samples == (5.0, 5.0, 5.0)


def test_known_lengths_are_not_measured_again():
    ways = Ways(a=80.0)
    interleave(ways.stints(), seconds=0.001, least=2, most=2, lengths={"a": 80.0})
    assert len(ways.calls) == 2


def test_time_ends_it_but_not_before_the_least_rounds():
    shares: list[float] = []
    found = interleave(Ways(a=100.0).stints(), seconds=1e-9, least=4, most=50, progress=shares.append)
    assert len(found["a"].samples) == 4
    assert shares[-1] == 1.0


def test_percentiles_are_numpys():
    values = tuple(np.random.default_rng(0).exponential(size=31))
    timing = Timing(values)
    assert [timing.percentile(q) for q in (20, 50, 80)] == pytest.approx(np.percentile(values, [20, 50, 80]).tolist())


def test_noise_sees_a_machine_that_slows_down_and_one_that_jumps():
    assert Timing((2.0,) * 9).noise == 0
    assert Timing((2.0, 2.0, 2.0, 2.2, 2.2, 2.2, 2.4, 2.4, 2.4)).noise == pytest.approx(0.4 / 2.2)
    assert Timing((1.0, 1.5) * 6).noise == pytest.approx(0.5 / 1.25)


def test_wall_calls_as_often_as_asked():
    calls: list[int] = []
    assert wall(lambda: calls.append(1))(7) >= 0
    assert len(calls) == 7
