"""Recordings of CUDA graphs take turns in a process, as each begins with a wait that would end another one."""

from __future__ import annotations

import threading

# PyTorch waits for the whole device before it records, which spoils what any other thread records there; and its
# memory may be recorded for one graph at a time.
RECORDING = threading.Lock()
