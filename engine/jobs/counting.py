"""Counts entry after entry: the next pictures are read and decoded while one is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from engine.count_job import OF_ONE_PICTURE
from engine.jobs.fetch import Fetcher
from engine.jobs.row import Entry, Row, count_entry
from engine.system.ordered_map import ordered_map


def count_entries(
    entries: Iterable[Entry],
    count: Callable[[Any], Any],
    fetcher: Fetcher,
    workers: int,
    keep: Callable[[Entry, Any], None] | None = None,
) -> Iterator[Row]:
    """The row of each entry, in their order; an error of one picture is in its row.

    Addresses are read ahead; ``workers`` threads decode, count and ``keep``, and wait for the counter, so that one more
    than it counts at once keeps it busy. In memory are that many pictures, and the addresses that are read ahead.

    Args:
        count: as ``CrowdCounter.count``.
        keep: gets each result with its maps.
    """

    def one(item: tuple[Entry, Callable[[], Any]]) -> Row:
        entry, read = item
        return count_entry(entry, count, read, OF_ONE_PICTURE, keep)

    items = fetcher.read_ahead(entries)
    return ordered_map(one, items, workers) if workers > 1 else map(one, items)
