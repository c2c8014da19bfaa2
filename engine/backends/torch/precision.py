"""Convolutions in float32 on a GPU as float32, where PyTorch's default is TF32, which keeps 11 bits of 24."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
# Who is within full_precision() now, and what the first of them found.
_users = 0
_before: Any = None


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it cuDNN does not round what it convolves; may be nested, and used by several threads at once.

    The setting is the whole process's, so it is put back by the last that leaves.
    """
    global _users, _before
    owner, name, exact = _setting()
    with _lock:
        if _users == 0:
            _before = getattr(owner, name)
            setattr(owner, name, exact)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                setattr(owner, name, _before)


def _setting() -> tuple[Any, str, Any]:
    """What holds cuDNN's setting, its name, and its value without TF32."""
    cudnn: Any = torch.backends.cudnn
    # From PyTorch 2.9 on the older name cannot be read where a user has set the newer one.
    return (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
