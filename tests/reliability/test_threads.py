"""One counter in many threads gives what it gives in one, bit for bit; so do repeats, and a process that was forked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading

import numpy as np
import pytest
from pictures import encoded
from reliability.processes import describe, python, run

import engine

SIZES = [(64, 64), (64, 96), (96, 64), (97, 65), (128, 64), (64, 161), (80, 80), (33, 200)]


def _pictures() -> list[bytes]:
    pictures = []
    for seed, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        pictures.append(encoded(noise.repeat(4, 0).repeat(4, 1)[:height, :width]))
    return pictures


def digest(result: engine.CountResult) -> str:
    """Of everything in a result but its times."""
    sha = hashlib.sha256(json.dumps({**result.to_dict(), "timings": {}}).encode())
    for array in (result.points, result.scores, result.heatmap, result.density, result.uncertainty):
        sha.update(array.tobytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def counter() -> engine.CrowdCounter:
    with engine.CrowdCounter(device="cpu", cpu_threads=2) as counter:
        yield counter


def test_sixteen_threads_are_bit_equal_to_one(counter: engine.CrowdCounter, long_run: bool) -> None:
    """Each thread counts eight pictures of eight sizes in an order of its own, 1 (20) times."""
    pictures = _pictures()
    serial = [digest(counter.count(data)) for data in pictures]
    assert len(set(serial)) == len(serial)
    wrong: list[tuple[int, int]] = []
    done: list[int] = []
    start = threading.Barrier(16)

    def work(thread: int) -> None:
        start.wait()
        for _ in range(20 if long_run else 1):
            for index in np.random.default_rng(thread).permutation(len(pictures)):
                if digest(counter.count(pictures[index])) != serial[index]:
                    wrong.append((thread, int(index)))
                done.append(thread)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(done) == 16 * len(pictures) * (20 if long_run else 1)


def test_repeats_are_bit_identical(counter: engine.CrowdCounter, long_run: bool) -> None:
    """20 (1,000) times, with other sizes in between."""
    first, *others = _pictures()
    expected = digest(counter.count(first))
    for number in range(1000 if long_run else 20):
        assert digest(counter.count(first)) == expected, f"repeat {number}"
        if number % 10 == 0:
            counter.count(others[number // 10 % len(others)])


def test_the_digest_sees_one_bit(counter: engine.CrowdCounter) -> None:
    result = counter.count(_pictures()[0])
    changed = result.uncertainty.copy()
    changed.view(np.uint8).flat[0] ^= 1
    assert digest(dataclasses.replace(result, uncertainty=changed)) != digest(result)


_FORK = """
import os, sys
import numpy as np
import engine
picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
def make(): return engine.CrowdCounter(device='cpu', cpu_threads=2)
{before}
read, write = os.pipe()
child = os.fork()
if child == 0:
    try: os.write(write, {counter}.count(picture).heatmap.tobytes())
    except engine.EngineError as error: os.write(write, str(error).encode())
    os._exit(0)
os.close(write)
got = open(read, "rb").read()
assert os.waitpid(child, 0)[1] == 0
counted = make().count(picture).heatmap.tobytes()
print("counted" if got == counted else got[:300])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(
    ("before", "counter", "result"),
    [
        ("from engine.image.load import load_image", "make()", "counted"),
        ("counter = make(); counter.count(picture)", "make()", "get_context('spawn')"),
        ("counter = make(); counter.count(picture)", "counter", "get_context('spawn')"),
    ],
    ids=["a counter made after the fork", "another counter in the child", "the same counter in the child"],
)
def test_forked_processes(before: str, counter: str, result: str) -> None:
    """They count with counters of their own, or say why they cannot; they never wait for threads that are gone."""
    done = run(python("-c", _FORK.format(before=before, counter=counter)))
    assert done.returncode == 0, describe(done)
    assert result in done.stdout


_LEFT = """
import os, sys
import numpy as np
import engine
picture = np.zeros((64, 64, 3), np.uint8)
counter = engine.CrowdCounter(backend={backend!r}, device='cpu', cpu_threads=2, performance={performance!r})
counter.count(picture)
child = os.fork()
if child == 0:
    {leave}
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
counter.count(picture)
print("all ended")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("leave", ["counter.close()", "del counter", "pass"])
@pytest.mark.parametrize(
    ("backend", "performance"), [("openvino", "balanced"), ("openvino", "throughput"), ("torch", "balanced")]
)
def test_a_forked_process_leaves_its_parents_counter(leave: str, backend: str, performance: str) -> None:
    """However it does: it waits for no thread that only its parent has, and costs the parent nothing."""
    assert _output(_LEFT.format(leave=leave, backend=backend, performance=performance)) == "all ended"


_FORKED_BESIDE_THREADS = """
import os, sys, threading
import numpy as np
from engine import _core
stop = False
def work():
    while not stop: _core.find_peaks(np.zeros((2, 2), np.float32), 0.5, 1)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0: sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop = True
for thread in threads: thread.join()
print("all ended")
"""

_AT_EXIT = """
import atexit
atexit.register(lambda: print(len(_core.find_peaks(np.ones((2, 2), np.float32), 0.5, 1)[0]), "found"))
import numpy as np
from engine import _core
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_children_forked_beside_threads_in_kernels_end() -> None:
    """In a child nobody is left who waits for the interpreter's lock."""
    assert _output(_FORKED_BESIDE_THREADS) == "all ended"


def test_kernels_run_in_what_was_registered_to_run_at_exit_before_they_were_loaded() -> None:
    assert _output(_AT_EXIT).endswith(" found")


def _output(program: str) -> str:
    done = run(python("-c", program))
    assert done.returncode == 0, describe(done)
    return done.stdout.strip()
