"""What TensorRT-RTX compiles for each picture size: shared by a model's contexts, and kept beside its engines."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from engine.backends.compiled_cache import CompiledCache

_log = logging.getLogger("engine")

_NAME = "runtime"


class RuntimeCache:
    """Code that the runtime has compiled; the full TensorRT compiles none. May be used by several threads.

    Args:
        cache: where it is kept.
        facts: all that it depends on.
    """

    def __init__(self, cache: CompiledCache, facts: Mapping[str, object]):
        self._cache, self._facts = cache, facts
        self._compiled: Any = None
        self._kept: bytes | None = None
        self._lock = threading.Lock()

    def attach(self, config: Any) -> None:
        """Let the context that is made with ``config`` take code from here and leave its own here.

        Args:
            config: an engine's runtime configuration; the device's context must be current.
        """
        # Older versions of TensorRT-RTX, and the full TensorRT.
        if not hasattr(config, "create_runtime_cache"):
            return
        with self._lock:
            if self._compiled is None:
                self._compiled = self._load(config.create_runtime_cache())
            if self._compiled is None or not config.set_runtime_cache(self._compiled):
                _log.debug("TensorRT gives no runtime cache: each context compiles its code anew")

    def close(self) -> None:
        """Keep what was compiled, once the contexts are closed; the device's context must be current."""
        with self._lock:
            compiled, self._compiled = self._compiled, None
            memory = None if compiled is None else compiled.serialize()
            if memory is not None and bytes(memory) != self._kept:
                self._cache.store(_NAME, self._facts, bytes(memory))

    def _load(self, compiled: Any) -> Any:
        """The package's new cache, filled with what was kept."""
        self._kept = None if compiled is None else self._cache.load(_NAME, self._facts)
        if self._kept is not None and not compiled.deserialize(self._kept):
            # Such as one of another operating system: the package itself knows best what its code depends on.
            self._cache.discard(_NAME, self._facts)
            self._kept = None
        return compiled
