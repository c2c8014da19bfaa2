"""Commands whose packages are an extra."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.errors import EngineError


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Around imports of what ``pip install 'crowd-engine[extra]'`` brings.

    Raises:
        EngineError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A missing module of our own is a broken install, which no extra mends.
        if (error.name or "engine").partition(".")[0] == "engine":
            raise
        message = f"this command needs {error.name}: pip install 'crowd-engine[{extra}]'"
        raise EngineError(message) from error
