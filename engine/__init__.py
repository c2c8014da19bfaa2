"""Counts people in pictures: ``engine.CrowdCounter().count("photo.jpg")``."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
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
    if name == "_core":  # Not imported yet; for those who start Python in the folder of the sources, not there at all.
        return _compiled_part()
    raise AttributeError(f"module 'engine' has no attribute {name!r}")


def _compiled_part() -> Any:
    try:
        return import_module("engine._core")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{Path(__file__).parent} holds the sources of engine, without its compiled part: start Python in another "
            "folder or with 'python -P', which finds the installed package"
        ) from error
