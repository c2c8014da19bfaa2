"""Frames of a stream -> lines of JSON, rows of CSV, and .npy maps."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from engine.errors import ConfigError
from engine.stream.frame import FrameResult
from engine.system.text import BOM, csv_row, json_text
from engine.zones.columns import zone_columns, zone_numbers
from engine.zones.layout import ZoneLayout


class TextStream(Protocol):
    """What records are written to, such as an open file."""

    def write(self, text: str, /) -> object:
        """Add text."""

    def flush(self) -> object:
        """Hand it on."""


class JsonLines:
    """Writes one JSON object a frame, each on a line of its own, as they come.

    The stream has every whole line at once, so that it can be followed while it grows. An object is the frame's
    ``to_dict()`` with "alerts", the names of the zones whose alert is on.

    Args:
        stream: text to write to; it stays open.
    """

    def __init__(self, stream: TextStream):
        self._stream = stream

    def write(self, frame: FrameResult, alerts: Collection[str] = ()) -> None:
        """Add a frame."""
        self._stream.write(json_text({**frame.to_dict(), "alerts": list(alerts)}) + "\n")
        self._stream.flush()


class FrameCsv:
    """Writes one row a frame, as they come, after a header.

    Columns: file, index, timestamp (seconds), time (UTC, of live sources), dropped, count, low, high; for each zone
    "zone.NAME" and the interval "zone.NAME.low" and "zone.NAME.high"; for each line "line.NAME.left" and
    "line.NAME.right"; for each alert "alert.NAME", 1 while it is on.

    Args:
        stream: text to write to, opened with ``newline=""``; it stays open.
        layout: zones, lines and alerts that the frames are counted with.
        has_header: the header is there, of an earlier run.
        bom: begin with a byte order mark, by which Excel knows UTF-8.
    """

    def __init__(
        self, stream: TextStream, layout: ZoneLayout | None = None, has_header: bool = False, bom: bool = False
    ):
        self._stream, self._layout = stream, layout or ZoneLayout()
        if not has_header:
            stream.write(BOM * bom + csv_row(self.columns(self._layout)))
            stream.flush()

    @staticmethod
    def columns(layout: ZoneLayout) -> list[str]:
        """Of a table of frames that are counted with ``layout``."""
        return [
            *("file", "index", "timestamp", "time", "dropped", "count", "low", "high"),
            *zone_columns(layout),
            *(f"alert.{name}" for name in layout.alerts),
        ]

    def write(self, frame: FrameResult, alerts: Collection[str] = ()) -> None:
        """Add a frame."""
        result, layout = frame.result, self._layout
        cells = [
            *(frame.file, frame.index, round(frame.timestamp, 6), frame.time, frame.dropped),
            *(result.count, *result.interval),
            *zone_numbers(layout, result.zones, result.zone_intervals, result.lines),
            *(int(name in alerts) for name in layout.alerts),
        ]
        self._stream.write(csv_row(cells))
        self._stream.flush()


class MapFolder:
    """Writes the density map of every frame as ``frame-000012.npy`` (float32, sums to the count), whole or not at all.

    Args:
        path: folder, which is made if its parent is there.

    Raises:
        ConfigError: there is a file of that name, or the parent does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._folder = Path(path)
        if not self._folder.parent.is_dir():
            raise ConfigError(f"cannot write maps to {self._folder}: the folder {self._folder.parent} does not exist")
        try:
            self._folder.mkdir(exist_ok=True)
        except FileExistsError:
            raise ConfigError(f"maps of a stream go into a folder, but {self._folder} is a file") from None

    def write(self, frame: FrameResult) -> None:
        """Add the map of a frame."""
        frame.result.save(self._folder / f"frame-{frame.index:06}.npy")
