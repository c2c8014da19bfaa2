"""``examples/onnxruntime_count.py``, which is in no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

EXAMPLE = Path(__file__).parent.parent / "examples" / "onnxruntime_count.py"


def load_example() -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("onnxruntime_count", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
