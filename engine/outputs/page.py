"""A live picture in the browser of this machine: motion JPEG over HTTP, on the loopback address alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import simplejpeg  # type: ignore[import-untyped]

from engine.errors import ConfigError, EngineError
from engine.outputs.page_server import PageServer

_HOST = "127.0.0.1"
_QUALITY = 85

Draw = Callable[[], np.ndarray]


class LivePage:
    """Shows the newest frame at ``http://127.0.0.1:PORT/`` for as long as this object is open.

    It is one process's own page: only programs on this machine reach it (any of its users may, there is no password),
    nothing is stored or sent elsewhere, the page loads nothing from elsewhere, and it is gone when this object is
    closed. A viewer who is slow misses frames; nobody waits for it. Pictures are drawn and encoded in the threads of
    the viewers, once for all of them, and not at all if nobody looks.

    Args:
        port: 0 takes a free one (:attr:`url` tells).
        title: of the page.

    Raises:
        ConfigError: ``port`` is not from 0 to 65535.
        EngineError: the port is taken.

    >>> with LivePage() as page:
    ...     page.publish(lambda: np.zeros((4, 4, 3), np.uint8), {"count": 0})
    ...     page.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, port: int = 0, title: str = "crowd"):
        if not 0 <= port <= 65535:
            raise ConfigError(f"the port must be from 0 to 65535, got {port}")
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._version, self._draw = 0, _nothing
        self._status: dict[str, Any] = {}
        self._encoded: tuple[int, bytes] = (0, b"")
        self._closed = False
        self._problem: Exception | None = None
        try:
            self._server = PageServer((_HOST, port), self, title)
        except OSError as error:
            raise EngineError(
                f"cannot show the stream on port {port}: {error.strerror or error}; try another"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="crowd-page", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{_HOST}:{self._server.server_address[1]}/"

    @property
    def closed(self) -> bool:
        """No more frames will come."""
        return self._closed

    def publish(self, draw: Draw, status: dict[str, Any] | None = None) -> None:
        """Show a frame instead of the one before; returns at once.

        Args:
            draw: makes the picture, uint8 [H, W, 3] RGB; called at most once, in another thread, if anybody looks
                before the next frame is there.
            status: JSON data that ``/status.json`` gives, such as the count; not to be changed afterwards.

        Raises:
            EngineError: the frame before could not be drawn.
        """
        if self._problem:
            raise EngineError(f"a frame could not be drawn for the page: {self._problem}") from self._problem
        with self._changed:
            self._version, self._draw, self._status = self._version + 1, draw, status or {}
            self._changed.notify_all()

    def wait_newer(self, version: int, timeout: float) -> int | None:
        """Wait for a frame that is newer than number ``version``.

        Returns:
            Number of the newest frame; None when the page is closed or ``timeout`` seconds have passed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._version > version, timeout)
            return None if self._closed or self._version <= version else self._version

    def jpeg(self) -> tuple[int, bytes]:
        """The newest frame, drawn and encoded, with its number; number 0 is no frame yet."""
        with self._encoding:
            with self._changed:
                version, draw = self._version, self._draw
            if version != self._encoded[0]:
                try:
                    picture = np.ascontiguousarray(draw())
                    self._encoded = version, simplejpeg.encode_jpeg(picture, quality=_QUALITY, colorspace="RGB")
                except Exception as error:
                    # This is a viewer's thread; whoever publishes is told.
                    self._problem = error
                    # Not tried again: the number is passed, the picture stays the one before.
                    self._encoded = version, self._encoded[1]
            return self._encoded

    @property
    def status(self) -> str:
        """JSON text of the newest status."""
        with self._changed:
            status = self._status
        return json.dumps(status, allow_nan=False)

    def close(self) -> None:
        """End the page and the connections of all viewers; closing twice is harmless."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()


def _nothing() -> np.ndarray:
    raise AssertionError("there is no frame yet")
