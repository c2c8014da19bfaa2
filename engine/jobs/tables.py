"""Rows -> CSV, JSON and JSON lines that are whole at every moment, and take their names when the job ends."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.jobs.journal import write_at
from engine.system.text import BOM, csv_row, json_text
from engine.zones.columns import zone_columns, zone_numbers

if TYPE_CHECKING:
    from engine.outputs.records import TextStream
    from engine.zones.layout import ZoneLayout

CSV_COLUMNS = ("file", "count", "low", "high", "width", "height")


class Table(ABC):
    """Text in the form of one kind of file: a start, rows, and an end."""

    start, separator, end, empty = "", "", "", ""

    @abstractmethod
    def text(self, row: dict[str, Any]) -> str:
        """One row."""


class JsonTable(Table):
    """One JSON array, an object for each row."""

    start, separator, end, empty = "[\n", ",\n", "\n]\n", "[]\n"

    def text(self, row: dict[str, Any]) -> str:
        return json_text(row)


class JsonLinesTable(Table):
    """An object for each row, each on a line of its own."""

    def text(self, row: dict[str, Any]) -> str:
        return json_text(row) + "\n"


class CsvTable(Table):
    """:data:`CSV_COLUMNS`, what is in the zones and lines of ``layout``, and the error of a picture that has one."""

    def __init__(self, layout: ZoneLayout | None = None, bom: bool = False):
        # Here, so that --help loads no array library.
        from engine.zones.layout import NO_ZONES

        self._layout = NO_ZONES if layout is None else layout
        self._columns = [*CSV_COLUMNS, *zone_columns(self._layout), "error"]
        self.start = self.empty = BOM * bom + csv_row(self._columns)

    def text(self, row: dict[str, Any]) -> str:
        if row["count"] is None:
            return csv_row([row["file"], *[None] * (len(self._columns) - 2), row["error"]])
        zones = zone_numbers(self._layout, row["zones"], row["zone_intervals"], row["lines"])
        return csv_row([row["file"], row["count"], *row["interval"], *row["image_size"], *zones, None])


class TableFile:
    """A table in a file; a context manager.

    It grows under a hidden name beside its own, complete with its end after every row, and takes its own name when it
    is left, whatever the reason; unless an error left it without a row: then the file that was there before stays.

    Args:
        path: of the file; a link is followed.
    """

    def __init__(self, path: str | os.PathLike[str], table: Table):
        self._table = table
        # Where the next row goes, and the rows before it; one value, so that no signal comes between the two.
        self._state = (0, 0)
        self._target = Path(path).resolve()
        self._part = self._target.with_name(f".{self._target.name}.part")
        self._file, self._made = -1, False

    def open(self) -> None:
        """Make the hidden file; not before, so that a signal comes when :meth:`discard` is due already."""
        self._made = True
        self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._state[1]

    def add(self, row: dict[str, Any]) -> None:
        """Add a row.

        Raises:
            OSError: it cannot be written, as on a full disk; the table is as it was.
        """
        body, rows = self._state
        text = encoded((self._table.separator if rows else self._table.start) + self._table.text(row))
        try:
            write_at(self._file, text + encoded(self._table.end), body)
        except OSError:
            self._write_end()
            raise
        self._state = (body + len(text), rows + 1)

    def close(self, failed: bool = False) -> None:
        """End the table, which has its name then, unless it ``failed`` without a row."""
        if self._file < 0:
            return
        try:
            if not (failed and not self.rows):
                self._write_end()
                os.replace(self._part, self._target)
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the table; the file that was there before stays."""
        # In this order: after a signal in between nothing is done with a file that is closed.
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
        if self._made:
            self._part.unlink(missing_ok=True)
            self._made = False

    def __enter__(self) -> TableFile:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    def _write_end(self) -> None:
        """Put the end behind the rows that there are; there is room for it, as it was there before."""
        body, rows = self._state
        end = encoded(self._table.end if rows else self._table.empty)
        write_at(self._file, end, body)
        os.ftruncate(self._file, body + len(end))


class TableStream:
    """A table that is written on and on, as to standard output or a device; a context manager.

    Args:
        stream: it stays open.
    """

    def __init__(self, stream: TextStream, table: Table):
        self._stream, self._table, self._rows = stream, table, 0

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self._stream.write((self._table.separator if self._rows else self._table.start) + self._table.text(row))
        self._stream.flush()
        self._rows += 1

    def __enter__(self) -> TableStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Where writing failed, more of it would fail again.
        if kind is None or not issubclass(kind, OSError):
            self._stream.write(self._table.end if self._rows else self._table.empty)
            self._stream.flush()


def encoded(text: str) -> bytes:
    """UTF-8; bytes of a file name that are no text are escaped."""
    return text.encode("utf-8", "backslashreplace")
