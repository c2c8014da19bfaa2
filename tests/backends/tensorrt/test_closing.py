"""Counters that are closed while other threads count, and those of a parent process, on a simulated GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from backends.tensorrt.blobs import picture
from closing import close_while_counting
from same_result import same_result

import engine
from engine.backends.cuda import double_buffer
from engine.backends.tensorrt import backend as backend_module
from engine.errors import CLOSED, EngineError


def test_closing_waits_for_what_other_threads_count(machine) -> None:
    """Each thread gets whole results, or that the counter is closed."""
    image, counter = picture(64, 64), machine().counter()
    expected = counter.count(image)
    results = close_while_counting(counter, image)
    assert results
    assert all(same_result(x, expected) for x in results)


@pytest.fixture
def slow_copy(monkeypatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Copies to the pinned buffers say that they began, and wait to go on."""
    began, go_on = threading.Event(), threading.Event()

    def copyto(target: np.ndarray, source: np.ndarray) -> None:
        began.set()
        assert go_on.wait(60)
        np.copyto(target, source)

    monkeypatch.setattr(double_buffer, "np", SimpleNamespace(copyto=copyto))
    yield began, go_on
    go_on.set()


def _start(work: Callable[[], object], seen: list[object]) -> threading.Thread:
    def run() -> None:
        try:
            seen.append(work())
        except Exception as error:
            seen.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_what_is_written_to_is_not_freed(machine, slow_copy) -> None:
    began, go_on = slow_copy
    here, seen = machine(), []
    counter = here.counter()
    counting = _start(lambda: counter.count(picture(64, 64)), seen)
    assert began.wait(60)
    closing = _start(counter.close, [])
    time.sleep(0.2)
    assert closing.is_alive()
    assert "pinned" in here.gpu.live.values()
    go_on.set()
    for thread in (counting, closing):
        thread.join()
    (outcome,) = seen
    assert isinstance(outcome, engine.CountResult) or (type(outcome), str(outcome)) == (EngineError, CLOSED)
    here.gpu.assert_clean()


def test_what_is_written_to_for_ever_is_never_freed(machine, slow_copy, monkeypatch, caplog) -> None:
    monkeypatch.setattr(backend_module, "_CLOSE_TIMEOUT", 0.05)
    began, go_on = slow_copy
    here, seen = machine(), []
    counter = here.counter()
    backend = counter._backend
    counting = _start(lambda: counter.count(picture(64, 64)), seen)
    assert began.wait(60)
    counter.close()
    assert "still being uploaded" in caplog.text
    assert "pinned" in here.gpu.live.values()
    go_on.set()
    counting.join()
    assert isinstance(seen[0], EngineError)
    # For the machine, which is looked at in the end.
    backend._engines.close()
    backend._context._ledger.close()


def test_a_launched_picture_is_whole_after_closing(machine, gpu_bundle) -> None:
    with machine().counter() as counter:
        expected = [counter.count(picture(64, 64, seed=seed)) for seed in range(3)]
    counter = machine().counter()
    results = counter._count_all(((picture(64, 64, seed=seed), "rgb") for seed in range(3)), counter._plan(None, None))
    first = next(results)
    counter.close()
    second = next(results)
    assert same_result(first, expected[0])
    assert same_result(second, expected[1])
    with pytest.raises(EngineError, match="closed"):
        next(results)


_FORK = """
import gc, os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from backends.simulated_machine import Machine
from backends.tensorrt.blobs import picture
from engine.diffusion.sampler import Request
from engine.backends.tensorrt import requirements
from engine.bundle.bundle import load_bundle
from engine.system.stopwatch import Stopwatch
here = Machine(load_bundle(sys.argv[2]), Path(sys.argv[3]))
requirements.load_tensorrt = lambda: here.library
counter = here.counter()
expected = counter.count(picture(64, 64))
request = Request(1, 1, 0, None)
running = counter._backend.infer_all((picture(64, 64), request, Stopwatch()) for _ in range(3))
next(running)
held, let_go = threading.Event(), threading.Event()
def hold():
    with counter._backend._lock, counter._backend._uploads._changed:
        held.set()
        let_go.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    calls = len(here.gpu.calls)
    running.close()
    counter.close()
    del counter, running
    gc.collect()
    os._exit(len(here.gpu.calls) - calls)
give_up = time.monotonic() + 60
while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < give_up:
    time.sleep(0.05)
let_go.set()
thread.join()
if not ended[0]:
    os.kill(child, signal.SIGKILL)
    sys.exit("the child waits")
running.close()
assert counter.count(picture(64, 64)).count == expected.count
counter.close()
here.gpu.assert_clean()
print("ended with", ended[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_forked_process_leaves_its_parents_counter(gpu_bundle, tmp_path) -> None:
    """Though a thread that only the parent has holds the locks; and it calls no driver."""
    tests = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-c", _FORK, tests, str(gpu_bundle.path), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "ended with 0", run.stderr
