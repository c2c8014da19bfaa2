"""Upload buffers of all threads, and who is writing to them: they must not be freed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from engine.backends.cuda.context import close_all
from engine.backends.cuda.double_buffer import DoubleBuffer
from engine.backends.cuda.streams import Stream
from engine.errors import CLOSED, EngineError


class Uploads:
    """Lends a :class:`DoubleBuffer` to each thread that asks; what was given back is lent again.

    Args:
        compute: the stream that reads the uploaded arrays.
    """

    def __init__(self, compute: Stream):
        self._compute = compute
        self._idle: list[DoubleBuffer] = []
        # A lock of its own, as a thread uploads while others hold the backend's lock and wait for the GPU.
        self._changed = threading.Condition()
        self._writers = 0
        self._is_stopped = False

    @contextmanager
    def lend(self) -> Iterator[DoubleBuffer]:
        """Buffers for this thread alone.

        Raises:
            EngineError: :meth:`stop` was called.
        """
        with self._changed:
            self._check()
            buffers = self._idle.pop() if self._idle else DoubleBuffer(self._compute)
        try:
            yield buffers
        finally:
            with self._changed:
                self._idle.append(buffers)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it, lent buffers are written to; :meth:`stop` waits for that.

        Raises:
            EngineError: :meth:`stop` was called.
        """
        with self._changed:
            self._check()
            self._writers += 1
        try:
            yield
        finally:
            with self._changed:
                self._writers -= 1
                self._changed.notify_all()

    def stop(self, seconds: float) -> bool:
        """Refuse what would be written from now on; whether everybody else was done within so many seconds."""
        with self._changed:
            self._is_stopped = True
            return self._changed.wait_for(lambda: not self._writers, seconds)

    def close(self) -> None:
        """Free the buffers that are not lent, once :meth:`stop` said so; the others go with the context."""
        with self._changed:
            idle, self._idle = self._idle, []
        close_all(buffers.close for buffers in idle)

    def abandon(self) -> None:
        """Called in a forked process: the thread that held the lock is not there to release it."""
        self._changed, self._is_stopped = threading.Condition(), True

    def _check(self) -> None:
        if self._is_stopped:
            raise EngineError(CLOSED)
