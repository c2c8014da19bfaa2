"""The frames of one camera, read in a thread of its own; whatever happens to it happens there."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from engine.errors import ConfigError
from engine.stream.frame import Frame
from engine.stream.mailbox import Mailbox
from engine.stream.opening import open_source
from engine.stream.sources import Source
from engine.system.addresses import hide_passwords
from engine.watch.config import Camera

# Seconds before a camera is opened again; each further delay is twice as long.
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0
# Seconds that closing waits; a thread that hangs in a driver is left to itself: it is a daemon.
_CLOSE_TIMEOUT = 2.0
# Problems that are none.
CONNECTING, ENDED = "connecting", "it ended"


class Feed:
    """Reads a camera, and opens it again whenever it fails; a recording is read once.

    Args:
        camera: what to read.
        arrived: called when a frame is there, or none will come any more; from the thread that reads.
        opener: opens the source; raises SourceError.
        clock: seconds, monotonic.

    Attributes:
        ended: no frame will come any more.
        failed: it ended before it should have.
    """

    def __init__(
        self,
        camera: Camera,
        arrived: Callable[[], None],
        opener: Callable[[Camera], Source] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.camera, self.ended, self.failed = camera, False, False
        self._arrived, self._opener, self._clock = arrived, opener or _open, clock
        self._opened = replace(camera, options=replace(camera.options, lost=self._lose))
        # When the newest frame came; and why there is none, without passwords.
        self._heard, self._problem = clock(), CONNECTING
        self._mailbox = Mailbox(newest=True)
        self._source: Source | None = None
        self._delay = _FIRST_DELAY
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"crowd-{camera.name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self) -> Frame | None:
        """The next frame, if one is there; returns at once."""
        return self._mailbox.take(0) if len(self._mailbox) else None

    @property
    def trouble(self) -> str:
        """Why no frame is there; empty where one waits, or may be expected. Without passwords."""
        if len(self._mailbox):
            return ""
        options = self.camera.options
        patience = options.patience.timeout + 1 / (options.fps or 1.0)
        silent = self._clock() - self._heard > patience
        return self._problem or (f"no frame for {patience:g} s" if silent else "")

    @property
    def is_empty(self) -> bool:
        """Nothing more will be taken."""
        return self.ended and not len(self._mailbox)

    def stop(self) -> None:
        """Ask it to end; :meth:`join` waits for that."""
        self._stop.set()
        if self._source is not None:
            self._source.close()
        self._mailbox.close()

    def join(self) -> None:
        """Wait for its thread, two seconds at most."""
        if self._thread.is_alive():
            self._thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
                if not self._stop.is_set():
                    self._problem = ENDED
                break
            except ConfigError as error:
                self._note(error)
                break
            except Exception as error:
                # Whatever a driver or an iterable raises is this camera's trouble alone.
                self._note(error)
                # A recording is not begun again.
                if self._source is not None and not self._source.is_live:
                    break
            if self._stop.wait(self._delay):
                break
            self._delay = min(2 * self._delay, _LONGEST_DELAY)
        self.failed = self._problem != ENDED and not self._stop.is_set()
        self.ended = True
        self._arrived()

    def _read(self) -> None:
        source = self._opener(self._opened)
        if self._source is None:
            # Every frame of a recording is counted.
            self._mailbox = Mailbox(newest=source.is_live)
        self._source = source
        # After that: closing may have come while it was opened.
        if self._stop.is_set():
            self.stop()
        with contextlib.closing(source.frames()) as frames:
            for frame in frames:
                self._delay = _FIRST_DELAY
                self._heard, self._problem = self._clock(), ""
                if not self._mailbox.put(frame):
                    return
                self._arrived()

    def _lose(self, problem: str) -> None:
        self._note(f"it was lost: {problem}")

    def _note(self, problem: Exception | str) -> None:
        known = [source] if isinstance(source := self.camera.source, str) else []
        self._problem = hide_passwords(str(problem) or type(problem).__name__, known)


def _open(camera: Camera) -> Source:
    return open_source(camera.source, camera.options)
