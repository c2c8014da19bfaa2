"""Tables of an earlier run, to be added to."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from typing import IO

from engine.errors import ConfigError

_CHUNK = 1 << 16


def open_to_add(path: str | os.PathLike[str]) -> IO[str]:
    """A file of text, new or with the whole lines that it has; bytes of file names that are no text are escaped."""
    cut_last_line(path)
    return open(path, "a", encoding="utf-8", errors="backslashreplace", newline="")


def cut_last_line(path: str | os.PathLike[str]) -> None:
    """Cut off a last line that is not whole, such as a process leaves that was killed while it wrote."""
    # Devices have no lines.
    if not os.path.isfile(path):
        return
    with open(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)


def has_header(path: str | os.PathLike[str], columns: Sequence[str]) -> bool:
    """Whether a CSV file has its first line; False where it is not there, or holds none.

    Raises:
        ConfigError: it has other columns: rows that were added would mean something else.
    """
    if not os.path.isfile(path):
        return False
    # A byte order mark is for spreadsheets.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline()
    if not first.endswith("\n"):
        return False
    found = next(csv.reader([first]), [])
    if found != list(columns):
        raise ConfigError(
            f"cannot add to {os.fspath(path)}: its columns are {', '.join(found)}, and those of this run are "
            f"{', '.join(columns)}; move it away, or count with the same zones, lines and alerts"
        )
    return True
