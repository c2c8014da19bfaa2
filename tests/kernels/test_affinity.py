"""How many threads the kernels start where a process may not use every processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Prints the threads that a kernel has started: by a process bound to one processor, then to up to four. There are more
# tasks than that.
_COUNT = """
import os
import numpy as np
from engine import _core

first, *others = sorted(os.sched_getaffinity(0))
heatmap = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
before = len(os.listdir("/proc/self/task"))
for allowed in ({first}, {first, *others[:3]}):
    os.sched_setaffinity(0, allowed)
    _core.find_peaks(heatmap, 0.0, threads=0)
    print(len(os.listdir("/proc/self/task")) - before, len(allowed))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the threads of a process, and binds them")
def test_no_threads_beyond_the_processors_of_the_process(tmp_path: Path) -> None:
    # Away from the source tree, whose engine/ lacks the compiled part.
    command = [sys.executable, "-c", _COUNT]
    run = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    (alone, one), (started, processors) = (map(int, line.split()) for line in run.stdout.splitlines())
    assert (one, alone) == (1, 0)
    assert started == processors - 1
