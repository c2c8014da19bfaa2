"""Counts entry after entry: the next pictures are read and decoded while one is counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from engine.errors import ImageError
from engine.jobs.fetch import Fetcher
from engine.jobs.row import Entry, Row, count_entry
from engine.system.ordered_map import ordered_map


def count_entries(
    entries: Iterable[Entry],
    count: Callable[[Any], Any],
    fetcher: Fetcher,
    workers: int,
    keep: Callable[[Entry, Any], None] | None = None,
) -> Generator[Row]:
    """The row of each entry, in their order; an error of one picture is in its row.

    Addresses are read ahead; ``workers`` threads decode, count and ``keep``, and wait for the counter, so that one more
    than it counts at once keeps it busy. In memory are that many pictures, and the addresses that are read ahead.

    Args:
        count: as ``CrowdCounter.count``.
        keep: gets each result with its maps.
    """

    def one(item: tuple[Entry, Any, float]) -> Row:
        entry, picture, waited = item
        return count_entry(entry, picture, count, keep, waited)

    items = _read(fetcher.read_ahead(entries))
    yield from ordered_map(one, items, workers) if workers > 1 else map(one, items)


def _read(ahead: Iterable[tuple[Entry, Callable[[], Any]]]) -> Iterator[tuple[Entry, Any, float]]:
    """Each entry with its picture, or why there is none, and the seconds that were waited for it.

    In the thread that Ctrl-C reaches: it ends the wait.
    """
    for entry, wait in ahead:
        start = time.perf_counter()
        try:
            picture = wait()
        except ImageError as error:
            yield entry, error, time.perf_counter() - start
        else:
            yield entry, picture, time.perf_counter() - start
