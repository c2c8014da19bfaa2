"""What hands frames from the thread that reads to the one that counts."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from engine.stream.frame import Frame

# Frames of a recording that wait: one is put in while another waits, which is all that overlapping needs.
_DEPTH = 2


class Mailbox:
    """Frames on their way from one thread to another.

    Args:
        newest: keep the newest frame alone, as of a camera: one that was not taken in time is dropped and counted.
            Otherwise every frame is delivered, and the reader waits for room.

    Attributes:
        dropped: frames that newer ones replaced, in all.
    """

    def __init__(self, newest: bool):
        self._newest = newest
        self._frames: deque[Frame] = deque()
        self._changed = threading.Condition()
        self._is_closed = self._is_finished = False
        self._error: BaseException | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> bool:
        """Hand over a frame; false if nobody wants frames any more."""
        with self._changed:
            if self._newest:
                frame = self._replace_older(frame)
            else:
                self._changed.wait_for(lambda: len(self._frames) < _DEPTH or self._is_closed)
            if not self._is_closed:
                self._frames.append(frame)
                self._changed.notify_all()
            return not self._is_closed

    def _replace_older(self, frame: Frame) -> Frame:
        while self._frames:
            older = self._frames.popleft()
            self.dropped += 1
            # What the older one had to say is not lost with it.
            frame = replace(
                frame,
                dropped=frame.dropped + older.dropped + 1,
                warnings=older.warnings + frame.warnings,
                lost_at=frame.lost_at if older.lost_at is None else older.lost_at,
            )
        return frame

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no frame comes any more, and why if it is not the end."""
        with self._changed:
            self._is_finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Drop what is in it; nobody waits any more, on either side."""
        with self._changed:
            self._is_closed = True
            self._frames.clear()
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Frame | None:
        """The next frame, once there is one; None at the end, or once it is closed.

        Raises:
            TimeoutError: none came within ``timeout`` seconds.
            Exception: what the source failed with, after the frames before it.
        """
        if timeout is not None:
            timeout = min(timeout, threading.TIMEOUT_MAX)
        with self._changed:
            if not self._changed.wait_for(lambda: self._frames or self._is_finished or self._is_closed, timeout):
                raise TimeoutError
            if self._frames:
                frame = self._frames.popleft()
                self._changed.notify_all()
                return frame
            error, self._error = self._error, None
        if error is not None and not self._is_closed:
            raise error
        return None
