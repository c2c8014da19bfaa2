"""Order, errors and look-ahead of the map on threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from engine.system.ordered_map import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 23])
def test_results_come_in_the_order_of_the_items(count: int, workers: int) -> None:
    def slow_first(x: int) -> int:
        time.sleep(0.02 if x % 5 == 0 else 0.0)
        return x * x

    assert list(ordered_map(slow_first, range(count), workers)) == [x * x for x in range(count)]


def test_so_many_run_at_once_and_no_more() -> None:
    # Each waits for two others: with fewer than three at once nobody would get on.
    barrier = threading.Barrier(3, timeout=30)
    running, most, lock = 0, 0, threading.Lock()

    def meet(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()
        with lock:
            running -= 1
        return x

    assert list(ordered_map(meet, range(9), 3)) == list(range(9))
    assert most == 3


def test_items_are_taken_as_they_are_needed() -> None:
    taken = []

    def items() -> Iterator[int]:
        for x in range(100):
            taken.append(x)
            yield x

    results = ordered_map(abs, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 4
    results.close()
    assert len(taken) <= 4


def test_the_first_error_comes_in_place_of_its_result() -> None:
    def divide(x: int) -> float:
        return 1 / x

    results = ordered_map(divide, [2, 1, 0, 0, 5], 2)
    assert [next(results), next(results)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("before", [0, 1, 3, 9])
def test_an_error_of_the_items_is_raised_after_the_results_before_it(before: int) -> None:
    def items() -> Iterator[int]:
        yield from range(before)
        raise OSError("no more pictures")

    found: list[int] = []
    results = ordered_map(abs, items(), 2)
    with pytest.raises(OSError, match="no more pictures"):
        found.extend(results)
    assert found == list(range(before))


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_refused_threads_are_done_without(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    """As where a limit of processes is reached: every result comes, in order, and errors are raised in their places."""
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) >= allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert list(ordered_map(abs, range(-9, 0), workers=4)) == list(range(9, 0, -1))
    assert len(started) == allowed
    started.clear()
    results = ordered_map(lambda x: 1 // x, [1, 0, 1], workers=4)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
