"""Counts people in pictures: ``engine.CrowdCounter().count("photo.jpg")``."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.counter import CrowdCounter
    from engine.errors import EngineError, ImageError
    from engine.result import CountResult

# Loaded on first use, so that ``import engine`` stays fast and pulls in no runtime.
_HOME = {
    "CrowdCounter": "engine.counter",
    "CountResult": "engine.result",
    "EngineError": "engine.errors",
    "ImageError": "engine.errors",
}

__all__ = ["CountResult", "CrowdCounter", "EngineError", "ImageError", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("crowd-engine")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
