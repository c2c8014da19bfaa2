"""What a part of first_light.py finds: rows of JSON, written as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Report:
    """Appends rows to a file, so that a part that is stopped keeps what it had found.

    Args:
        file: of the rows, one a line; None keeps them in :attr:`rows` alone.
    """

    def __init__(self, file: Path | None = None):
        self._file = file
        self.rows: list[dict[str, Any]] = []

    def row(self, what: str, is_right: bool, **values: Any) -> None:
        """One thing that was tried: whether it is right, and its figures."""
        row = {"what": what, "ok": is_right, **values}
        self.rows.append(row)
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def attempt(self, what: str, action: Callable[[], dict[str, Any]]) -> bool:
        """A row of what ``action`` returns, or of how it failed; whether it went well. Then the part goes on."""
        start = time.perf_counter()
        try:
            values = action()
        # Whatever a driver, a compiler or a kernel raises is what is to be found out here.
        except Exception as error:
            self.row(what, False, problem=f"{type(error).__name__}: {error}"[:2000], seconds=_since(start))
            return False
        self.row(what, True, seconds=_since(start), **values)
        return True


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)
