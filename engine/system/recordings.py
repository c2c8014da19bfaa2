"""What cannot go on in one process while a CUDA graph is recorded takes turns with that."""

from __future__ import annotations

import threading

# CUDA ends every recording on a device that any thread waits for as a whole. PyTorch does so before it records, and
# TensorRT may where it builds; and PyTorch's memory can be recorded for one graph at a time.
RECORDING = threading.Lock()
