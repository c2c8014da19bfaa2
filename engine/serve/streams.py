"""The running streams that the page shows: of each, the newest frame and what was counted in it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import simplejpeg  # type: ignore[import-untyped]

from engine.errors import ConfigError, EngineError

_QUALITY = 85
# In addresses, and as a label of metrics.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Draw = Callable[[], np.ndarray]


class LiveStream:
    """The newest frame of one stream, for any number of viewers.

    A viewer who is slow misses frames; nobody waits for it. Pictures are drawn and encoded in threads of the viewers,
    once for all of them, and not at all if nobody looks. Made by :meth:`StreamRegistry.add`.

    Attributes:
        name: in addresses and metrics.
        title: for people; without passwords.
        frames, dropped: counted, and left out, so far.
        closed: no more frames will come.
    """

    def __init__(self, name: str, title: str):
        self.name, self.title = name, title
        self.frames = self.dropped = 0
        self._lock, self._encoding = threading.Lock(), threading.Lock()
        self._version, self._draw = 0, _nothing
        self._plain: np.ndarray | None = None
        self._status: Mapping[str, Any] = {}
        self._plain_status: Mapping[str, Any] = {}
        self._encoded: tuple[int, bytes] = (0, b"")
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self.closed = False
        self._problem: Exception | None = None

    @property
    def status(self) -> Mapping[str, Any]:
        """JSON data of the newest frame."""
        with self._lock:
            return self._status

    def publish(self, draw: Draw, status: Mapping[str, Any], plain: np.ndarray | None = None) -> None:
        """Show a frame instead of the one before; returns at once. May be called from any thread.

        Args:
            draw: makes the picture, uint8 [H, W, 3] RGB; called at most once, in another thread, if anybody looks
                before the next frame is there.
            status: JSON data, such as a frame's ``to_dict()`` with "alerts" (names of zones); not to be changed
                afterwards.
            plain: the frame as it was counted, uint8 [H, W, 3] RGB, in which zones are drawn.

        Raises:
            EngineError: a frame before could not be drawn, which is said once. This one is shown.
        """
        with self._lock:
            self._version, self._draw, self._status = self._version + 1, draw, status
            self._plain, self._plain_status = plain, status
            self.frames, self.dropped = self.frames + 1, self.dropped + int(status.get("dropped", 0))
            problem, self._problem = self._problem, None
        self._wake()
        if problem:
            raise EngineError(f"a frame could not be drawn for the page: {problem}") from problem

    def report(self, status: Mapping[str, Any]) -> None:
        """Replace the status, but not the frame: for a camera that is lost, ``{"state": "..."}``."""
        with self._lock:
            self._status = status
        self._wake()

    async def newer(self, version: int, timeout: float) -> int:
        """Wait for a frame that is newer than number ``version``; the number of the newest, after ``timeout`` or at the
        end of the stream maybe the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self.closed or self._version > version:
                return self._version
            self._waiting.append((loop, future))
        await asyncio.wait([future], timeout=timeout)
        with self._lock:
            self._waiting = [item for item in self._waiting if item[1] is not future]
            return self._version

    def jpeg(self) -> tuple[int, bytes]:
        """The newest frame, drawn and encoded, with its number; number 0 is no frame yet. Takes milliseconds."""
        with self._encoding:
            with self._lock:
                version, draw = self._version, self._draw
            if version != self._encoded[0]:
                try:
                    self._encoded = version, _encode(draw())
                except Exception as error:
                    # This is a viewer's thread; the publisher is told.
                    with self._lock:
                        self._problem = error
                    # Not tried again: the number is passed, the picture stays the one before.
                    self._encoded = version, self._encoded[1]
            return self._encoded

    def snapshot(self) -> tuple[bytes, Mapping[str, Any]] | None:
        """The newest frame without anything drawn on it, as JPEG, and the status that it came with, also where another
        was reported since; None if there is none."""
        with self._lock:
            plain, status = self._plain, self._plain_status
        return None if plain is None else (_encode(plain), status)

    def close(self) -> None:
        """No more frames; closing twice is harmless."""
        with self._lock:
            self.closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_finish, future)
            except RuntimeError:
                # The loop has ended, and with it the viewers that waited.
                continue


class StreamRegistry:
    """The streams that run in this process.

    >>> streams = StreamRegistry()
    >>> gate = streams.add("gate", "Gate, north side")
    >>> gate.publish(lambda: np.zeros((8, 8, 3), np.uint8), {"count": 3, "interval": [2, 4]})
    >>> [(stream.name, stream.status["count"]) for stream in streams.running()]
    [('gate', 3)]
    """

    def __init__(self) -> None:
        self._streams: dict[str, LiveStream] = {}
        self._lock = threading.Lock()

    def add(self, name: str, title: str = "") -> LiveStream:
        """A new stream.

        Args:
            name: letters, digits, dots, dashes and underscores.
            title: for people; the name, if empty.

        Raises:
            ConfigError: the name is of another form, or taken.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"a stream's name must be 1 to 64 letters, digits, '.', '_' or '-', got {name!r}")
        with self._lock:
            if name in self._streams:
                raise ConfigError(f"there are two streams called {name!r}; give one of them another name")
            self._streams[name] = LiveStream(name, title or name)
            return self._streams[name]

    def get(self, name: str) -> LiveStream | None:
        """The stream of that name; None if there is none."""
        with self._lock:
            return self._streams.get(name)

    def running(self) -> list[LiveStream]:
        """All streams, in the order in which they came."""
        with self._lock:
            return list(self._streams.values())

    def close(self) -> None:
        """End every stream, and with them the connections of their viewers."""
        for stream in self.running():
            stream.close()


def _encode(picture: np.ndarray) -> bytes:
    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=_QUALITY, colorspace="RGB")
    return data


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _nothing() -> np.ndarray:
    raise AssertionError("there is no frame yet")
