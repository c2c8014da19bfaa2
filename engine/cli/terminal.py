"""What the commands say: texts that any terminal can show, and the status that they end with."""

from __future__ import annotations

import enum
import sys


class Status(enum.IntEnum):
    """Exit status; 130 and 141 are what a shell reports of a program that ended by SIGINT and by SIGPIPE.

    :func:`engine.cli.run` makes 143 of 130 where it was SIGTERM.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    PIPE_CLOSED = 141


def printable(text: str) -> str:
    """``text`` with whatever the terminal cannot show escaped; file names may hold any byte."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say(text: object) -> None:
    """A line on stderr, so that what a command writes to stdout is its result alone."""
    print(f"crowd: {printable(str(text))}", file=sys.stderr)


class Terminal:
    """Standard output, where everything is :func:`printable`."""

    def write(self, text: str, /) -> None:
        """Add text."""
        sys.stdout.write(printable(text))

    def flush(self) -> None:
        """Show it."""
        sys.stdout.flush()
