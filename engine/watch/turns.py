"""Whose frame is counted next."""

from __future__ import annotations

import threading

from engine.stream.frame import Frame
from engine.watch.feed import Feed


class Turns:
    """Gives the next turn to the feed that waited longest since its last: each of N that always have a frame gets one
    turn in N, whatever the others do.

    No two turns of one are at the same time, so that its frames are counted in their order.
    """

    def __init__(self) -> None:
        self._order, self._busy = list[Feed](), set[Feed]()
        self._changed, self._closed = threading.Condition(), False

    def add(self, feed: Feed) -> None:
        """One more, which comes last."""
        with self._changed:
            self._order.append(feed)

    def wake(self) -> None:
        """A feed has a frame, or has ended."""
        with self._changed:
            self._changed.notify_all()

    def take(self) -> tuple[Feed, Frame] | None:
        """Wait for a turn; None once everything has ended, or it is closed. :meth:`done` ends the turn."""
        with self._changed:
            while not self._closed:
                for feed in self._order:
                    if feed not in self._busy and (frame := feed.take()) is not None:
                        self._order.remove(feed)
                        self._order.append(feed)
                        self._busy.add(feed)
                        return feed, frame
                if all(feed.is_empty for feed in self._order):
                    return None
                self._changed.wait()
        return None

    def is_busy(self, feed: Feed) -> bool:
        """Whether a turn of this one runs."""
        with self._changed:
            return feed in self._busy

    def done(self, feed: Feed) -> None:
        """The turn of this one is over."""
        with self._changed:
            self._busy.discard(feed)
            self._changed.notify_all()

    def close(self) -> None:
        """No more turns."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
