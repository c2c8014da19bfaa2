"""What becomes of one camera's counts: alerts, files, and followers such as a page."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

from engine.errors import EngineError
from engine.outputs.appending import has_header, open_to_add
from engine.outputs.records import FrameCsv
from engine.stream.frame import FrameResult
from engine.system.addresses import hide_passwords
from engine.system.text import csv_row
from engine.watch.config import Camera
from engine.watch.feed import CONNECTING, ENDED
from engine.watch.minutes import Minute, MinuteLog, utc_text
from engine.zones.occupancy import OccupancyLog

# Different troubles of one camera that are said.
_MOST_TROUBLES = 100

_log = logging.getLogger("engine")


class Follower(Protocol):
    """What gets the counts of a camera: a page, a broker. Returns at once; called by one thread at a time."""

    def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
        """A frame was counted, with the zones whose alert is on."""

    def report(self, problem: str) -> None:
        """There are no frames, for a reason without passwords; until the next :meth:`write`."""


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


def _say_nothing(_: str) -> None:
    """Drop the text."""


class Station:
    """The files, alerts and followers of one camera.

    Args:
        camera: whose.
        folder: of ``NAME.csv``, a row for each frame, and ``NAME-minutes.csv``, a row a minute; what is there is added
            to. None for no files.
        followers: besides.
        tell: says an alert that begins or ends.
        tell_minute: says what a minute had.
        now: the time of day.

    A context manager; leaving it ends the files, with what there is of the last minute.

    Raises:
        ConfigError: a file of an earlier run has other columns.
        OSError: a file cannot be written.
    """

    def __init__(
        self,
        camera: Camera,
        folder: Path | None = None,
        followers: Sequence[Follower] = (),
        tell: Callable[[str], None] = _say_nothing,
        tell_minute: Callable[[str], None] = _say_nothing,
        now: Callable[[], datetime] = utc_now,
    ):
        self.camera, self._followers, self._now = camera, tuple(followers), now
        self._tell, self._tell_minute = tell, tell_minute
        self._alerts, self._minutes, self._lock = OccupancyLog(camera.layout.alerts), MinuteLog(now()), threading.Lock()
        self._rows: FrameCsv | None = None
        self._table: IO[str] | None = None
        self._troubles = set[str]()
        self._problem: str | None = None
        # Since a frame was counted: what the log has said of why there is none.
        self._said = set[str]()
        with contextlib.ExitStack() as stack:
            if folder is not None:
                self._open_files(folder, stack)
            self._stack = stack.pop_all()

    def write(self, frame: FrameResult) -> None:
        """Take a counted frame. A follower or file that fails does not keep it from the others."""
        with self._lock:
            if self._said:
                _log.warning("%s is counted again", self.camera.name)
                self._said.clear()
            self._problem, now = None, self._tick()
            self._minutes.add(now, frame.dropped, frame.result)
            for event in self._alerts.update(now.timestamp(), frame.result):
                state = f"alert {'on' if event.on else 'off'} at {event.people} people"
                self._tell(f"{frame.time or utc_text(now)} {self.camera.name}: {event.zone}: {state}")
            alerts = self._alerts.alerts_on
            for output in (self._rows, *self._followers):
                if output is not None:
                    with self._forgiven():
                        output.write(frame, alerts)

    def report(self, problem: str) -> None:
        """Say that there are no frames, and why; saying it again is harmless."""
        with self._lock:
            if problem == self._problem:
                return
            self._problem = problem
            self._minutes.lose(self._tick())
            # Once, not at every attempt, though reasons may take turns.
            if problem not in (CONNECTING, ENDED, *self._said) and len(self._said) < _MOST_TROUBLES:
                self._said.add(problem)
                _log.warning("%s is not counted: %s", self.camera.name, problem)
            for follower in self._followers:
                with self._forgiven():
                    follower.report(problem)

    def tick(self) -> None:
        """End the minutes that are over."""
        with self._lock:
            self._tick()

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, self._stack:
            if minute := self._minutes.end(self._tick()):
                self._write_minute(minute)

    def _open_files(self, folder: Path, stack: contextlib.ExitStack) -> None:
        layout, name = self.camera.layout, self.camera.name
        # Both are looked at before one is changed.
        paths = folder / f"{name}.csv", folder / f"{name}-minutes.csv"
        columns = FrameCsv.columns(layout), Minute.columns(layout)
        known = [has_header(path, names) for path, names in zip(paths, columns, strict=True)]
        rows, self._table = (stack.enter_context(open_to_add(path)) for path in paths)
        self._rows = FrameCsv(rows, layout, known[0])
        if not known[1]:
            self._table.write(csv_row(columns[1]))
            self._table.flush()

    def _tick(self) -> datetime:
        """The time of day, once the minutes before it are written."""
        now = self._now()
        for minute in self._minutes.tick(now):
            self._write_minute(minute)
        return now

    def _write_minute(self, minute: Minute) -> None:
        self._tell_minute(f"{self.camera.name} {minute}")
        if self._table is not None:
            with self._forgiven():
                self._table.write(csv_row(minute.cells(self.camera.layout)))
                self._table.flush()

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        """A full disk, or a frame that cannot be drawn, is said once and does not end the watch."""
        try:
            yield
        except (EngineError, OSError) as error:
            trouble = hide_passwords(f"{self.camera.name}: {error}")
            if trouble not in self._troubles and len(self._troubles) < _MOST_TROUBLES:
                self._troubles.add(trouble)
                _log.error("%s", trouble)
