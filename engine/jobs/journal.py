"""The journal of a job: every finished row, in JSON lines behind a head that says what the job is."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, EngineError

try:
    import fcntl
except ImportError:
    # Windows has no such locks: two jobs on one journal are not told apart there.
    fcntl = None  # type: ignore[assignment]

# Seconds of rows that a power cut may take; what ends the process alone takes none.
_SYNC_S = 1.0
# What a head begins with.
_HEAD = b'{"job": '


class Journal:
    """Rows that outlive the process, whatever ends it; a context manager.

    A row is in the file once :meth:`append` returns. A row that cannot be written whole, as on a full disk, is taken
    back. One process at a time has it open.

    Args:
        path: of the file.
        head: what the job is, as JSON has it: its settings and the hash of its model.
        resume: go on with the file that is there. Else a new one is begun, and where there were rows, the file that was
            there is kept as :attr:`set_aside`, beside it.

    Raises:
        ConfigError: the file is of a job with another head; or another process has it open.
        EngineError: the file is damaged, by more than a last line that was cut.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], head: dict[str, Any], resume: bool = False):
        self.path = Path(path)
        self._head = json.loads(json.dumps(head))
        self.set_aside: Path | None = None
        # Bytes that count, and rows behind the head: one value, so that no signal comes between the two.
        self._state, self._synced = (0, 0), time.monotonic()
        self._file = self._opened()
        try:
            if resume:
                self._state = self._checked_state()
            elif self._has_rows():
                self._set_aside()
            self._cut()
            if not self._state[0]:
                self._state = (0, -1)
                self.append({"job": self._head})
        except BaseException:
            self._release()
            raise

    def append(self, row: dict[str, Any]) -> None:
        """Add a row.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        size, count = self._state
        try:
            write_at(self._file, line, size)
        except OSError:
            self._cut()
            raise
        self._state = (size + len(line), count + 1)
        if time.monotonic() - self._synced > _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Have the disk take every row, so that a power cut loses none."""
        os.fsync(self._file)
        self._synced = time.monotonic()

    def clear(self) -> None:
        """Forget the rows, but not the head."""
        self._state = (next(_lines(self.path, self._state[0]))[0], 0)
        self._cut()

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._state[1]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row, in the order in which they came."""
        lines = _lines(self.path, self._state[0])
        next(lines)
        for _, row in lines:
            yield row

    def close(self, remove: bool = False) -> None:
        """Close the file; ``remove`` it where the job is done."""
        if self._file >= 0:
            # A row that a signal cut is none.
            self._cut()
            if remove:
                # Before the lock is given up: a job that has it then starts anew.
                self.path.unlink(missing_ok=True)
            self._release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> int:
        """The file, which no other process has open from here on."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            raise ConfigError(f"another process is writing {self.path}; wait for it, or name other files") from error
        return file

    def _release(self) -> None:
        # In this order: after a signal in between nothing is done with a file that is closed.
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _has_rows(self) -> bool:
        """Whether the file has more than a head. A row that is damaged, or behind what is no head, is one too."""
        with open(self.path, "rb") as file:
            head, row = file.readline(), file.readline()
        return row.endswith(b"\n") or not head.startswith(_HEAD[: len(head)])

    def _set_aside(self) -> None:
        """Give the file the first name that is free, and begin another."""
        names = (f"{self.path.name}.old{'' if number == 1 else f'.{number}'}" for number in itertools.count(1))
        self.set_aside = next(path for name in names if not os.path.lexists(path := self.path.with_name(name)))
        os.replace(self.path, self.set_aside)
        self._release()
        self._file = self._opened()

    def _checked_state(self) -> tuple[int, int]:
        """Bytes of the whole lines that are there, and rows in them; 0 where not even the head is."""
        state = (0, 0)
        for number, (end, row) in enumerate(_lines(self.path, os.fstat(self._file).st_size)):
            if number == 0:
                _check_head(self.path, row["job"], self._head)
            state = (end, number)
        return state

    def _cut(self) -> None:
        os.ftruncate(self._file, self._state[0])


def _check_head(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with a job that counts otherwise."""
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        was = ", ".join(f"{name}={str(found.get(name))[:80]}" for name in differing)
        now = ", ".join(f"{name}={str(wanted.get(name))[:80]}" for name in differing)
        raise ConfigError(
            f"{path} is of a job with {was}, and this one has {now}; resume it with the same settings and "
            "model, or start anew without --resume"
        )


def write_at(file: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` into an open file.

    Raises:
        OSError: not all of it could be written.
    """
    os.lseek(file, offset, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _lines(path: Path, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """(end of the line in bytes, its object) of every whole line within ``size`` bytes."""
    end = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if end + len(line) > size:
                return
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) or ("job" in row) != (number == 1):
                # What a killed process or a power cut leaves at the end is no row; before the end it is damage.
                if file.read(1):
                    raise EngineError(f"{path}: line {number} is damaged; restore the file, or start the job anew")
                return
            end += len(line)
            yield end, row
