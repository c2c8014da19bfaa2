"""Applies a function to many items on a few threads, in order, holding only a few items at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from engine.errors import ONE_PICTURE

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class UntilError(Generic[ItemT]):
    """Items up to an error of their source, for those who take items ahead of the results that they give.

    >>> items = UntilError(int(text) for text in ["1", "two"])
    >>> list(items)
    [1]
    >>> items.raise_error()
    Traceback (most recent call last):
    ValueError: invalid literal for int() with base 10: 'two'
    """

    def __init__(self, items: Iterable[ItemT]):
        self._items = items
        self._error: Exception | None = None

    def __iter__(self) -> Generator[ItemT, None, None]:
        try:
            yield from self._items
        except Exception as error:
            self._error = error

    def raise_error(self) -> None:
        """Raise what ended the items, if anything but their end did."""
        if self._error is not None:
            raise self._error


def ordered_map(function: Callable[[ItemT], ResultT], items: Iterable[ItemT], workers: int) -> Iterator[ResultT]:
    """Yield ``function(item)`` for each item, in their order; ``workers`` of them are computed at once.

    At most twice as many items are taken ahead of the result that is yielded. The first error, of the function or of
    the items, is raised where its result would come, after those of the items before it; what was not begun by then
    is not computed. Where the system refuses threads, there are fewer; without any, the caller's computes.

    >>> list(ordered_map(abs, [-3, 2, -1], workers=2))
    [3, 2, 1]
    """
    pending: deque[Future[ResultT]] = deque()
    source = UntilError(items)
    with _Pool(workers, thread_name_prefix="crowd") as pool:
        try:
            for item in source:
                pending.append(_submit(pool, function, item))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
            source.raise_error()
        finally:
            for future in pending:
                future.cancel()


class _Pool(ThreadPoolExecutor):
    """A pool that does with the threads that it has, where the system refuses another one."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:
            # What is submitted lies in the queue already, which any thread takes it from.
            if not self._threads:
                raise


def _submit(pool: _Pool, function: Callable[[ItemT], ResultT], item: ItemT) -> Future[ResultT]:
    try:
        return pool.submit(function, item)
    except RuntimeError:
        # There is no thread at all.
        future: Future[ResultT] = Future()
        try:
            future.set_result(function(item))
        except Exception as error:
            future.set_exception(error)
        return future


def attempt(function: Callable[[Any], ResultT]) -> Callable[[Any], ResultT | Exception]:
    """``function``, which returns an error of one picture in place of raising it, and the errors that it is given.

    >>> attempt(open)("gone")
    FileNotFoundError(2, 'No such file or directory')
    """

    def attempted(item: Any) -> ResultT | Exception:
        try:
            return item if isinstance(item, Exception) else function(item)
        except ONE_PICTURE as error:
            return error

    return attempted
