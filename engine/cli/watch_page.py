"""The page and the metrics of ``crowd watch --serve``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.cli.extras import needs_extra
from engine.cli.serve import EXTRA, server_settings
from engine.cli.terminal import say
from engine.outputs.painter import FramePainter
from engine.outputs.rate_meter import RateMeter
from engine.stream.frame import FrameResult
from engine.watch.config import Camera

if TYPE_CHECKING:
    from engine.serve.streams import LiveStream


class PageFollower:
    """Shows one camera on the page; see :class:`engine.watch.station.Follower`."""

    def __init__(self, stream: LiveStream):
        self._stream, self._painter, self._rate = stream, FramePainter(), RateMeter()
        self.report("connecting")

    def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
        """Show a frame."""
        rate = self._rate.update()
        status = {**frame.to_dict(), "alerts": list(alerts)}
        self._stream.publish(lambda: self._painter.draw(frame, rate, alerts), status, frame.image)

    def report(self, problem: str) -> None:
        """Show why there is none."""
        self._stream.report({"state": problem})


@contextlib.contextmanager
def open_page(options: argparse.Namespace) -> Iterator[Callable[[Camera], PageFollower]]:
    """Serve the page while the context lasts; gives what adds a camera to it.

    Raises:
        ConfigError: an option is not valid.
        EngineError: the extra is not installed, or the address cannot be had.
    """
    settings = server_settings(options)
    with needs_extra(EXTRA):
        from engine.serve.app import create_app
        from engine.serve.server import AppServer
        from engine.serve.streams import StreamRegistry
    streams = StreamRegistry()
    with AppServer(create_app(None, settings, streams), settings) as server:
        say(f"showing the cameras at {server.url}")
        yield lambda camera: PageFollower(streams.add(camera.name, camera.title))
