"""The kernels' threads across a fork and at exit."""

from __future__ import annotations

import sys

import pytest
from reliability.processes import describe, python, run

# The pool's threads do not exist in a forked child, which must start its own; both must end cleanly.
_FORK = """
import os
import numpy as np
from engine import _core

packed = np.random.default_rng(0).standard_normal((1, 40, 50, 24)).astype(np.float32)
q, k, v = np.split(packed, [8, 16], axis=-1)

def attend(threads):
    out = np.full(v.shape, np.nan, np.float32)
    _core.criss_cross_attention(q, k, v, out, threads=threads)
    return out

expected = attend(3)
child = os.fork()
if child == 0:
    raise SystemExit(0 if np.array_equal(attend(3), expected) else 1)
_, status = os.waitpid(child, 0)
raise SystemExit(os.waitstatus_to_exitcode(status) or not np.array_equal(attend(1), expected))
"""

# The process ends while other threads are inside a kernel.
_EXIT = """
import threading
import time
import numpy as np
from engine import _core

def work():
    heatmap = np.random.default_rng(0).standard_normal((500, 500)).astype(np.float32)
    while True:
        _core.find_peaks(heatmap, 0.0, threads=3)

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
"""

# The system has no room for the stacks of threads; then it has again.
_REFUSED = """
import os
import resource
import numpy as np
from engine import _core

packed = np.random.default_rng(0).standard_normal((1, 40, 50, 24)).astype(np.float32)
q, k, v = np.split(packed, [8, 16], axis=-1)

def attend(threads):
    out = np.full(v.shape, np.nan, np.float32)
    _core.criss_cross_attention(q, k, v, out, threads=threads)
    return out

def count_threads():
    return len(os.listdir("/proc/self/task"))

expected, before = attend(1), count_threads()
pages = int(open("/proc/self/statm").read().split()[0])
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4_000_000, hard))
assert all(np.array_equal(attend(5), expected) for _ in range(3))
assert count_threads() == before
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
assert np.array_equal(attend(5), expected)
assert count_threads() == before + 4
"""


def _run(program: str) -> None:
    done = run(python("-c", program))
    assert done.returncode == 0, describe(done)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_computes_the_same() -> None:
    _run(_FORK)


def test_exit_while_kernels_run() -> None:
    _run(_EXIT)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_threads_that_the_system_refuses_are_done_without() -> None:
    _run(_REFUSED)
