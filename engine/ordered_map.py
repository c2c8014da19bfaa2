"""Applies a function to many items on a few threads, in order, holding only a few items at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def ordered_map(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], workers: int) -> Iterator[ResultT]:
    """Yield ``function(item)`` for each item, in their order; ``workers`` of them are computed at once.

    At most twice as many items are taken ahead of the result that is yielded. The first error, of the function or of
    the items, is raised where its result would come; what was not begun by then is not computed.

    >>> list(ordered_map(abs, [-3, 2, -1], workers=2))
    [3, 2, 1]
    """
    pending: deque[Future[ResultT]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="crowd") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
