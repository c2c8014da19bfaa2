"""Live sources: cameras, network streams and any iterable that does not wait."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from engine.errors import SourceError
from engine.image.load import load_image
from engine.stream.frame import Frame
from engine.stream.sources import Pacer, Snapshot
from engine.stream.video import Picture

# Until they can be decoded, pictures may need the next one that is whole: some cameras give one in 10 s.
_WITHOUT_PICTURE = 3

_log = logging.getLogger("engine")


class Connection(Protocol):
    """An open camera or network stream."""

    def pictures(self, check: Callable[[], None]) -> Iterator[Picture]:
        """The pictures as they come; ``check`` is called at least between any two packets, and may raise."""

    def close(self) -> None:
        """Free it."""


@dataclass(frozen=True)
class Patience:
    """How long a live source is waited for.

    Attributes:
        timeout: seconds that connecting, and each frame, may take. Where something comes that is no picture, sound for
            example, or what follows on a picture that was missed, the next picture may take three times as long.
        give_up: seconds without a frame after which it is no longer tried to connect again; may be infinite.
        first_delay: seconds before it is tried for the first time; each further delay is twice as long.
        longest_delay: seconds.
    """

    timeout: float = 10.0
    give_up: float = 300.0
    first_delay: float = 0.5
    longest_delay: float = 30.0


def utc_time() -> str:
    """The time of day in UTC as ISO 8601, such as 2026-11-28T09:05:00.123Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Stopped(Exception):  # noqa: N818
    """The source was closed."""


class LiveVideo:
    """A camera or network stream, which is connected to again when it is lost.

    Args:
        connect: opens it; raises SourceError.
        first: the first connection, already open.
        patience: with reconnecting.
        clock: seconds, monotonic.
        stop: set to end it. Its ``wait`` sleeps between attempts.
        now: the time of day in UTC, as text.
        lost: is told why the connection was lost, and why it cannot be made again; None tells the log, once.
    """

    is_live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        first: Connection,
        fps: float | None,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
        stop: threading.Event | None = None,
        now: Callable[[], str] = utc_time,
        lost: Callable[[str], None] | None = None,
    ):
        self.name = name
        # Reading ends by itself before that, unless a driver hangs.
        self.timeout = patience.give_up + _WITHOUT_PICTURE * patience.timeout + (1 / fps if fps else 0.0)
        self._connect, self._lost = connect, lost
        self._connection: Connection | None = first
        self._pacer, self._patience, self._clock, self._now = Pacer(fps), patience, clock, now
        self._delay = patience.first_delay
        self._stop = threading.Event() if stop is None else stop
        self._index = 0
        self._start: float | None = None
        # When the newest picture came, and since when one is waited for.
        self._heard = self._waiting_since = 0.0
        # Since the last frame: what went wrong, since when the connection is lost, and why.
        self._warnings: tuple[str, ...] = ()
        self._loss: tuple[str, ...] = ()
        self._reason = ""
        self._lost_at: float | None = None

    def frames(self) -> Generator[Frame, None, None]:
        """The frames as they come, with the times they came at.

        Raises:
            SourceError: none came for ``patience.give_up`` seconds.
        """
        self._heard = self._clock()
        try:
            while not self._stop.is_set():
                problem = "it ended"
                try:
                    yield from self._connected()
                except _Stopped:
                    return
                except SourceError as error:
                    problem = str(error)
                finally:
                    self._disconnect()
                if not self._reconnect(problem):
                    return
        finally:
            # Closing may have come while it was connected again, or before anything was read.
            self._disconnect()

    def close(self) -> None:
        """End before the next frame, or while waiting to connect again."""
        self._stop.set()

    def _connected(self) -> Generator[Frame, None, None]:
        """The frames of the connection that is open."""
        assert self._connection is not None
        self._waiting_since = self._clock()
        for picture in self._connection.pictures(self._check):
            if self._stop.is_set():
                raise _Stopped
            self._waiting_since = self._heard = heard = self._clock()
            came = self._now()
            self._delay = self._patience.first_delay
            self._start = heard if self._start is None else self._start
            self._warnings += (*self._loss, *picture.warnings)
            self._reason, self._loss = "", ()
            if self._pacer.wants(heard - self._start):
                yield Frame(
                    self._index,
                    heard - self._start,
                    picture.pixels(),
                    warnings=self._warnings,
                    file=self.name,
                    time=came,
                    lost_at=self._lost_at,
                )
                self._warnings, self._lost_at = (), None
            self._index += 1

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped
        # To the connection all is well as long as anything comes.
        seconds = _WITHOUT_PICTURE * self._patience.timeout
        if self._clock() - self._waiting_since > seconds:
            raise SourceError(f"{self.name} gave data, but no picture for {seconds:g} s")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _reconnect(self, problem: str) -> bool:
        """Connect again, with growing delays; false if it was closed meanwhile."""
        patience = self._patience
        self._lose(problem)
        while self._clock() - self._heard + self._delay <= patience.give_up:
            if self._stop.wait(self._delay):
                return False
            # Only a frame brings it back to the first: a connection may open and give nothing.
            self._delay = min(2 * self._delay, patience.longest_delay)
            try:
                self._connection = self._connect()
            except SourceError as error:
                problem = str(error)
                self._lose(problem)
                continue
            # One sentence, however many connections open and give nothing.
            self._loss = (f"the connection was lost for {self._clock() - self._heard:.1f} s ({self._reason})",)
            return True
        raise SourceError(f"{self.name} was lost and gave no frame for {patience.give_up:g} s: {problem}")

    def _lose(self, problem: str) -> None:
        """Say why there is no connection: to the log once, until a frame comes."""
        if self._lost is not None:
            self._lost(problem)
        elif not self._reason:
            _log.warning("%s was lost: %s; connecting again", self.name, problem)
        self._reason = self._reason or problem
        if self._lost_at is None and self._start is not None:
            self._lost_at = self._heard - self._start


class LivePictures:
    """Pictures that an iterable gives as they come, such as the frames of another library's camera.

    Args:
        pictures: each anything that ``count`` takes.
        color: channel order of the arrays among them.
        timeout: seconds after which a frame is overdue.
        clock: seconds, monotonic.
        now: the time of day in UTC, as text.
        snapshot: makes each a picture of its own.
    """

    is_live = True

    def __init__(
        self,
        name: str,
        pictures: Iterable[Any],
        color: str,
        fps: float | None,
        timeout: float | None,
        clock: Callable[[], float] = time.monotonic,
        snapshot: Snapshot = load_image,
        now: Callable[[], str] = utc_time,
    ):
        # Between two frames that are wanted, others come that are not.
        self.name, self.timeout = name, timeout + (1 / fps if fps else 0.0) if timeout is not None else None
        self._pictures, self._color, self._snapshot = pictures, color, snapshot
        self._pacer, self._clock = Pacer(fps), clock
        self._now, self._is_closed = now, False

    def frames(self) -> Generator[Frame, None, None]:
        """The frames as they come, with the times they came at."""
        start: float | None = None
        for index, picture in enumerate(self._pictures):
            if self._is_closed:
                return
            passed, time_of_day = self._clock(), self._now()
            start = passed if start is None else start
            if self._pacer.wants(passed - start):
                warnings: list[str] = []
                image = self._snapshot(picture, color=self._color, warn=warnings.append)
                yield Frame(index, passed - start, image, warnings=tuple(warnings), time=time_of_day)

    def close(self) -> None:
        """End before the next frame."""
        self._is_closed = True
