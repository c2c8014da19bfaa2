"""What closing a counter does to the counts of other threads: nothing, if they have begun."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from closing import close_while_counting
from PIL import Image
from same_result import same_result

import engine
from engine.counting import stitching
from engine.errors import EngineError
from engine.image import tiles
from engine.system.ongoing import CLOSE_TIMEOUT

PICTURE = Path(__file__).parent.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.asarray(Image.open(PICTURE).convert("RGB"))


def test_a_closed_counter_says_so() -> None:
    counter = engine.CrowdCounter(device="cpu")
    counter.close()
    counter.close()
    with pytest.raises(EngineError, match="closed"):
        counter.count(np.zeros((64, 64, 3), np.uint8))


def test_closing_waits_for_what_other_threads_count(rgb) -> None:
    """Each thread gets whole results, or that the counter is closed."""
    counter = engine.CrowdCounter(device="cpu")
    expected = counter.count(rgb)
    results = close_while_counting(counter, rgb)
    assert results
    assert all(same_result(x, expected) for x in results)


@pytest.mark.parametrize("performance", ["balanced", "throughput"])
def test_a_batch_that_has_begun_is_counted_to_its_end(rgb, performance: str) -> None:
    """It failed midway."""
    counter = engine.CrowdCounter(device="cpu", performance=performance, cpu_threads=2)
    begun, results = threading.Event(), list[engine.CountResult]()

    def pictures() -> Iterator[np.ndarray]:
        for number in range(8):
            if number == 2:
                begun.set()
            yield rgb

    thread = threading.Thread(target=lambda: results.extend(counter.count_batch(pictures())))
    thread.start()
    begun.wait()
    counter.close()
    thread.join()
    assert len(results) == 8
    with pytest.raises(EngineError, match="closed"):
        counter.count(rgb)


def test_a_picture_of_several_tiles_is_counted_to_its_end(rgb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stitching, "plan_tiles", partial(tiles.plan_tiles, max_pixels=1, side=96, halo=32))
    counter = engine.CrowdCounter(device="cpu")
    expected = counter.count(rgb)
    begun, results = threading.Event(), list[engine.CountResult]()
    infer = type(counter._backend).infer

    def begin(*arguments: Any) -> Any:
        maps = infer(*arguments)
        if not begun.is_set():
            begun.set()
            time.sleep(0.5)  # No tile is being counted when the other thread closes.
        return maps

    monkeypatch.setattr(type(counter._backend), "infer", begin)
    thread = threading.Thread(target=lambda: results.append(counter.count(rgb)))
    thread.start()
    begun.wait()
    counter.close()
    thread.join()
    assert same_result(results[0], expected)


def test_closing_from_within_a_batch_does_not_wait_for_itself(rgb) -> None:
    counter = engine.CrowdCounter(device="cpu")

    def pictures() -> Iterator[np.ndarray]:
        yield rgb
        counter.close()
        yield rgb

    start = time.monotonic()
    with pytest.raises(EngineError, match="closed"):
        counter.count_batch(pictures())
    assert time.monotonic() - start < CLOSE_TIMEOUT
