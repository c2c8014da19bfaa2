"""The page of ``crowd stream --show`` and ``crowd watch --serve``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.cli.extras import needs_extra
from engine.cli.serve import EXTRA, say_how_open
from engine.cli.terminal import say
from engine.outputs.painter import FramePainter
from engine.outputs.rate_meter import RateMeter
from engine.stream.frame import FrameResult

if TYPE_CHECKING:
    from engine.serve.settings import ServeSettings
    from engine.serve.streams import LiveStream


class PageFollower:
    """Shows one stream on the page; see :class:`engine.watch.station.Follower`."""

    def __init__(self, stream: LiveStream):
        self._stream, self._painter, self._rate = stream, FramePainter(), RateMeter()

    def write(self, frame: FrameResult, alerts: Sequence[str]) -> None:
        """Show a frame."""
        rate = self._rate.update()
        status = {**frame.to_dict(), "alerts": list(alerts)}
        self._stream.publish(lambda: self._painter.draw(frame, rate, alerts), status, frame.image)

    def report(self, problem: str) -> None:
        """Show why there is none."""
        self._stream.report({"state": problem})


@contextlib.contextmanager
def open_page(settings: ServeSettings, titles: Mapping[str, str], what: str) -> Iterator[dict[str, PageFollower]]:
    """Serve a page that shows streams while the context lasts.

    Args:
        titles: of the streams, by their names.
        what: what the user is told that it shows.

    Raises:
        EngineError: the address cannot be had.
    """
    with needs_extra(EXTRA):
        from engine.serve.app import create_app
        from engine.serve.server import AppServer
        from engine.serve.streams import StreamRegistry

    streams = StreamRegistry()
    followers = {name: PageFollower(streams.add(name, title)) for name, title in titles.items()}
    with AppServer(create_app(None, settings, streams), settings) as server:
        say(f"showing {what} at {server.url}")
        say_how_open(settings)
        yield followers
