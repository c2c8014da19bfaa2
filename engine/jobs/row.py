"""One picture -> one row: the same in every table, journal and Parquet part, on one machine and on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import ONE_PICTURE, EngineError


@dataclass(frozen=True)
class Entry:
    """A picture that is to be counted.

    Attributes:
        id: whole number that is its own within the job.
        file: path or address, or "-" for standard input.
    """

    id: int
    file: str


@dataclass(frozen=True)
class Row:
    """What became of one picture.

    Attributes:
        seconds: from the start of reading to the result; waiting for the counter, which may be at work on the picture
            before, is part of it.
        found: ``CountResult.to_dict()``; None where there is an error.
        error: why the picture could not be counted.

    >>> row = Row(7, "a.jpg", 0.5, error="it is damaged")
    >>> Row.from_dict(row.to_dict()) == row
    True
    """

    id: int
    file: str
    seconds: float
    found: dict[str, Any] | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        assert (self.found is None) != (self.error is None)

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON lines: id, file, seconds, and what was found or the error."""
        kept = {"id": self.id, "file": self.file, "seconds": round(self.seconds, 4)}
        return kept | ({"error": self.error} if self.found is None else {"found": self.found})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Row:
        """What :meth:`to_dict` was made of.

        Raises:
            EngineError: ``data`` is no such row.
        """
        try:
            return cls(**data)
        except (TypeError, AssertionError) as error:
            raise EngineError(f"{str(data)[:100]} is no row of a job ({error}); start the job anew") from error

    def record(self) -> dict[str, Any]:
        """What users read: "file" with the result's own fields; where there is none, "count" is None beside "error"."""
        if self.found is None:
            return {"file": self.file, "count": None, "error": self.error}
        return {"file": self.file, **self.found}


def count_entry(
    entry: Entry,
    picture: Any,
    count: Callable[[Any], Any],
    keep: Callable[[Entry, Any], None] | None = None,
    waited: float = 0.0,
) -> Row:
    """Count one picture. What it fails with, and the next does not, is the error of its row; the rest is raised.

    Args:
        picture: what ``count`` takes, or why there is none.
        count: as ``CrowdCounter.count``.
        keep: gets the whole result, with its maps, before they are dropped.
        waited: seconds that reading the picture took before.
    """
    start = time.perf_counter() - waited
    try:
        if isinstance(picture, Exception):
            raise picture
        result = count(picture)
    except ONE_PICTURE as error:
        return Row(entry.id, entry.file, time.perf_counter() - start, error=str(error) or type(error).__name__)
    seconds = time.perf_counter() - start
    if keep is not None:
        keep(entry, result)
    return Row(entry.id, entry.file, seconds, result.to_dict())
