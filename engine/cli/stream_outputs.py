"""What ``crowd stream`` makes of each frame: text, JSON lines, CSV, a video, maps and the live page."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from engine.cli.extras import needs_extra
from engine.cli.live_page import PageFollower, open_page
from engine.cli.outputs import STDOUT, open_text
from engine.cli.serve import EXTRA
from engine.cli.terminal import Terminal, printable, say
from engine.outputs.appending import has_header, open_to_add
from engine.outputs.painter import FramePainter
from engine.outputs.rate_meter import RateMeter
from engine.outputs.records import FrameCsv, JsonLines, MapFolder, TextStream
from engine.outputs.video import VideoWriter
from engine.stream.frame import FrameResult
from engine.system.addresses import hide_password
from engine.zones.layout import TOTAL, ZoneLayout
from engine.zones.occupancy import OccupancyLog

# Frames a second of a saved video, where the source has no rate.
_RATE = 25.0


class StreamOutputs:
    """Everything that was asked for; a context manager. What was in the files before is gone once they are open.

    JSON lines and CSV grow line by line, so that they can be followed; the video appears when it is complete.
    """

    def __init__(self, options: argparse.Namespace, layout: ZoneLayout):
        self._log, self._rate, self._frames = OccupancyLog(layout.alerts), RateMeter(), 0
        # Seconds: of the last frame, and between two frames.
        self._time = self._period = 0.0
        self._writes_text = not options.quiet and STDOUT not in (options.json, options.csv)
        self._quiet, self._warned = options.quiet, list[str]()
        self._records: list[JsonLines | FrameCsv] = []
        self._maps = MapFolder(options.save_maps) if options.save_maps is not None else None
        self._video = self._page = None
        self._painter = FramePainter()
        append = options.append
        with contextlib.ExitStack() as stack:
            # The video first: it refuses a wrong suffix before a file is made.
            if options.save is not None:
                self._video = VideoWriter(options.save, options.fps or _RATE)
                # Completed whatever ends it, such as the reader of stdout: it discards itself where writing it fails.
                stack.callback(self._video.close)
            if options.json is not None:
                self._records.append(JsonLines(stack.enter_context(_open_growing(options.json, append))))
            if options.csv is not None:
                header = append and has_header(options.csv, FrameCsv.columns(layout))
                text = stack.enter_context(_open_growing(options.csv, append))
                self._records.append(FrameCsv(text, layout, header, options.csv_bom))
            if options.show is not None:
                self._page = stack.enter_context(_live_page(options))["stream"]
            self._stack = stack.pop_all()

    def write(self, frame: FrameResult) -> None:
        """Put a frame into every output."""
        self._frames += 1
        rate = self._rate.update()
        if frame.lost_at is None:
            self._period = frame.timestamp - self._time
        self._time = frame.timestamp
        for event in self._log.update(frame.timestamp, frame.result, frame.lost_at):
            say(_at(frame, event))
        alerts = self._log.alerts_on
        for record in self._records:
            record.write(frame, alerts)
        if self._maps:
            self._maps.write(frame)
        if self._video:
            self._video.write(self._painter.draw(frame, rate, alerts), frame.timestamp)
        if self._page:
            self._page.write(frame, alerts)
        if self._writes_text:
            print(printable(_at(frame, _text(frame))), flush=True)
        warnings = frame.to_dict()["warnings"]
        # What holds for frame after frame is said once.
        for warning in () if self._quiet else warnings:
            if warning not in self._warned:
                say(f"{frame.timestamp:.2f} s: warning: {warning}")
        self._warned = warnings

    def summary(self, dropped: int) -> str:
        """What was counted, in one line."""
        frames = f"{self._frames} frame{'' if self._frames == 1 else 's'} counted"
        # The last count holds as long as the one before it.
        self._log.hold(self._time + self._period)
        parts = [frames + (f", {dropped} left out because counting took longer" if dropped else "")]
        for zone, seen in self._log.summary.items():
            name = "" if zone == TOTAL else f"{zone}: "
            parts.append(f"{name}{seen.mean:.1f} people on average, at most {seen.peak} at {seen.peak_at:.2f} s")
        return "; ".join(parts)

    def __enter__(self) -> StreamOutputs:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _live_page(options: argparse.Namespace) -> contextlib.AbstractContextManager[dict[str, PageFollower]]:
    """A page of this machine that shows the stream."""
    with needs_extra(EXTRA):
        from engine.serve.settings import ServeSettings

    return open_page(ServeSettings(port=options.show), {"stream": hide_password(options.source)}, "it")


def _open_growing(path: str, append: bool) -> contextlib.AbstractContextManager[TextStream]:
    if path == STDOUT:
        return contextlib.nullcontext(Terminal())
    return open_to_add(path) if append else open_text(path)


def _at(frame: FrameResult, text: object) -> str:
    """A line that begins with the time of day, where the frame has one."""
    return f"{frame.time} {text}" if frame.time else str(text)


def _text(frame: FrameResult) -> str:
    zones = "".join(f", {name}: {people}" for name, people in frame.result.zones.items())
    return f"{frame}{zones}" + (f", {frame.dropped} frames left out" if frame.dropped else "")
