"""An engine for tests of the cache."""

from __future__ import annotations

from pathlib import Path

from engine.backends.compiled_cache import CompiledCache

FACTS = {"gpu": {"name": "H200", "capability": "9.0", "driver": 13000}, "library": "tensorrt 10.9", "graph": "ab12"}
ENGINE = bytes(range(256)) * 40


def load(folder: Path) -> bytes | None:
    return CompiledCache(folder).load("encoder.0.float16", FACTS)
