"""Whose frame is counted next."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar

from engine.stream.frame import Frame


class Waiting(Hashable, Protocol):
    """Something that may have a frame: a :class:`engine.watch.feed.Feed`."""

    def take(self) -> Frame | None:
        """The next frame, if one is there."""

    @property
    def is_empty(self) -> bool:
        """None will come any more."""


T = TypeVar("T", bound=Waiting)


class Turns(Generic[T]):
    """Gives the next turn to the one that waited longest since its last: each of N that always have a frame gets one
    turn in N, whatever the others do.

    No two turns of one are at the same time, so that its frames are counted in their order.
    """

    def __init__(self, waiting: Iterable[T] = ()):
        self._order, self._busy = list(waiting), set[T]()
        self._changed, self._closed = threading.Condition(), False

    def add(self, waiting: T) -> None:
        """One more, who comes last."""
        with self._changed:
            self._order.append(waiting)

    def wake(self) -> None:
        """One of them has a frame, or has ended."""
        with self._changed:
            self._changed.notify_all()

    def take(self) -> tuple[T, Frame] | None:
        """Wait for a turn; None once everything has ended, or it is closed. :meth:`done` ends the turn."""
        with self._changed:
            while not self._closed:
                for one in self._order:
                    if one not in self._busy and (frame := one.take()) is not None:
                        self._order.remove(one)
                        self._order.append(one)
                        self._busy.add(one)
                        return one, frame
                if all(one.is_empty for one in self._order):
                    return None
                self._changed.wait()
        return None

    def is_busy(self, one: T) -> bool:
        """Whether a turn of this one runs."""
        with self._changed:
            return one in self._busy

    def done(self, one: T) -> None:
        """The turn of this one is over."""
        with self._changed:
            self._busy.discard(one)
            self._changed.notify_all()

    def close(self) -> None:
        """No more turns."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
