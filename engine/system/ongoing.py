"""Work of several threads that is let end before something is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from engine.errors import CLOSED, EngineError

T = TypeVar("T")
# Seconds that closing waits for what other threads are doing.
CLOSE_TIMEOUT = 10.0


class Ongoing:
    """What has begun and has not ended."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads: list[int] = []
        self._is_over = False

    @contextmanager
    def one(self, open_it: Callable[[], T]) -> Iterator[T]:
        """A piece of work, in this thread, on what ``open_it`` gives.

        Raises:
            EngineError: none may begin any more.
        """
        thread = threading.get_ident()
        with self._changed:
            if self._is_over:
                raise EngineError(CLOSED)
            self._threads.append(thread)
        try:
            yield open_it()
        finally:
            with self._changed:
                self._threads.remove(thread)
                self._changed.notify_all()

    def end(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Let no work begin any more, and wait until that of other threads has ended, for at most ``timeout`` seconds.

        Work of this thread would wait for itself.
        """
        thread = threading.get_ident()
        with self._changed:
            self._is_over = True
            self._changed.wait_for(lambda: all(other == thread for other in self._threads), timeout)
