"""Runs the Triton kernels on a GPU where there is one, else in Triton's interpreter on tensors of the CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    assert "triton" not in sys.modules, "Triton was imported before it could be told to interpret kernels"
    # Triton reads it when it is imported.
    os.environ["TRITON_INTERPRET"] = "1"
import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.runtime import interpreter  # noqa: E402

if not ON_GPU:
    # Remembered, but not for child processes, which are to compile.
    triton.knobs.runtime.interpret = True
    del os.environ["TRITON_INTERPRET"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if ON_GPU and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("gpu")


@pytest.fixture
def device() -> str:
    """Where the tensors of a test live."""
    return "cuda" if ON_GPU else "cpu"


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan() -> Iterator[None]:
    """``torch.empty`` gives NaN, and the largest integers: results must not depend on it."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1).isnan().all()
    # The interpreter computes in NumPy, which warns of NaN.
    with np.errstate(all="ignore"):
        yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _bfloat16_in_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mend Triton 3.9's interpreter: it multiplies the bits of bfloat16 as integers, and rounds float32 towards 0."""
    if ON_GPU:
        return
    builder = interpreter.InterpreterBuilder
    dot, cast = builder.create_dot, builder.cast_impl

    def widened(x: Any) -> Any:
        if x.dtype.scalar != tl.bfloat16:
            return x
        return interpreter.TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def rounding_cast(self: Any, x: Any, to: Any) -> Any:
        if (x.dtype.scalar, to.scalar) != (tl.float32, tl.bfloat16):
            return cast(self, x, to)
        values = torch.from_numpy(np.ascontiguousarray(x.data)).to(torch.bfloat16)
        return interpreter.TensorHandle(values.view(torch.uint16).numpy(), tl.bfloat16)

    monkeypatch.setattr(builder, "create_dot", lambda self, a, b, *rest: dot(self, widened(a), widened(b), *rest))
    monkeypatch.setattr(builder, "cast_impl", rounding_cast)
