"""Manifests: Parquet, CSV or a list of paths and addresses, read in bounded memory, of any length."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import stat
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, ImageError
from engine.jobs.listings import Listed, csv_rows, list_rows, parquet_rows
from engine.jobs.parquet import row_count
from engine.jobs.row import Entry

# Names that a column of addresses may have, if the user names none.
COLUMNS = ("uri", "url", "file", "path", "image")
# On the command line this name stands for standard input, which a manifest never means.
_STDIN = "-"


@dataclass(frozen=True)
class Manifest:
    """Pictures that are listed in a file.

    Attributes:
        path: a .parquet file, or a folder of such; a .csv file with a header; else a list, a path or address a line. A
            pipe is read to its end at once, into a temporary file, as it can be read once alone.
        column: of the paths or addresses; None is the first of :data:`COLUMNS` that is there.
        id: column of whole numbers that are each picture's own; None numbers the pictures from 0.

    Raises:
        ConfigError: there is no such file or column, or it is a terminal or another device.
        OSError: a pipe cannot be read, or what it gives not be kept.
    """

    path: Path
    column: str | None = None
    id: str | None = None
    # What came through a pipe; the file goes with the manifest.
    _copy: Path | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not self.path.exists():
            raise ConfigError(f"manifest {self.path} does not exist; expected Parquet, CSV, or a list of addresses")
        if not self._is_parquet and self.path.suffix.lower() != ".csv" and (self.column or self.id):
            raise ConfigError(f"{self.path} is a list without columns; --column and --id are for .parquet and .csv")
        mode = self.path.stat().st_mode
        if stat.S_ISFIFO(mode):
            copy = _copy_of(self.path)
            object.__setattr__(self, "_copy", copy)
            weakref.finalize(self, copy.unlink, missing_ok=True)
        elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise ConfigError(
                f"manifest {self.path} is a terminal or another device; expected a file, a folder or a pipe: "
                "write the addresses into a file"
            )

    @property
    def _is_parquet(self) -> bool:
        return self.path.is_dir() or self.path.suffix.lower() in (".parquet", ".pq")

    def digest(self) -> str:
        """sha256 of the manifest's bytes: a job goes on with the same manifest alone."""
        total = hashlib.sha256()
        for file, _ in self._files():
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def count(self) -> int | None:
        """Pictures in it, where that can be told without reading it."""
        if not self._is_parquet:
            return None
        return sum(row_count(file, name) for file, name in self._files())

    def check(self) -> None:
        """Read it through, so that what :meth:`entries` raises is known before hours of counting.

        Raises:
            ConfigError: as of :meth:`entries`, or it lists no picture.
        """
        rows = self._checked(0)
        if next(rows, None) is None:
            raise ConfigError(f"manifest {self.path} lists no picture; expected a path or an address for each")
        deque(rows, maxlen=0)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The pictures from number ``start`` on.

        Raises:
            ConfigError: a file is damaged, there is no such column or it has no text, an id is no whole number of 64
                bits, or an entry is "-".
        """
        for number, (identity, uri) in enumerate(self._checked(start), start):
            yield Entry(number if identity is None else identity, uri)

    def _checked(self, start: int) -> Iterator[tuple[int | None, str]]:
        """The id, if there is a column of them, and the address of each row from number ``start`` on."""
        for file, name in self._files():
            if self._is_parquet and start >= (rows := row_count(file, name)):
                start -= rows
                continue
            for place, identity, uri in self._rows(file, name, start):
                if uri == _STDIN:
                    raise ConfigError(
                        f"{self._where(name, place)} is -, standard input, which a manifest cannot name; give a path "
                        "or an address, or ./- for a file of that name"
                    )
                yield None if self.id is None else self._whole(identity, name, place), uri
            start = 0

    def _files(self) -> list[tuple[Path, str]]:
        """Each file that is read, and what users call it."""
        if self._copy is not None:
            return [(self._copy, str(self.path))]
        if not self.path.is_dir():
            return [(self.path, str(self.path))]
        files = sorted(self.path.glob("*.parquet"))
        if not files:
            raise ConfigError(f"no .parquet files in the folder {self.path}; expected a manifest")
        return [(file, str(file)) for file in files]

    def _rows(self, file: Path, name: str, start: int) -> Iterator[Listed]:
        if self._is_parquet:
            return parquet_rows(file, name, self._columns, start)
        is_csv = self.path.suffix.lower() == ".csv"
        return itertools.islice(csv_rows(file, name, self._columns) if is_csv else list_rows(file, name), start, None)

    def _columns(self, names: list[str]) -> tuple[int, int]:
        """Places of the addresses and of the ids; -1 where ids are numbered."""
        wanted = COLUMNS if self.column is None else (self.column,)
        column = next((names.index(name) for name in wanted if name in names), -1)
        if column < 0 or (self.id is not None and self.id not in names):
            missing = self.id if column >= 0 else " or ".join(map(repr, wanted))
            raise ConfigError(f"{self.path} has no column {missing}, but {', '.join(names)}; name it: --column, --id")
        return column, -1 if self.id is None else names.index(self.id)

    def _whole(self, identity: Any, name: str, place: int) -> int:
        try:
            whole = int(str(identity))
        except ValueError:
            whole = None
        if whole is None or not -(2**63) <= whole < 2**63:
            kind = "whole numbers" if whole is None else "whole numbers of 64 bits, from -2^63 to 2^63 - 1"
            raise ConfigError(
                f"{self._where(name, place)} has the id {str(identity)!r:.80}; ids are {kind}: leave out --id to "
                "number the pictures"
            )
        return whole

    def _where(self, name: str, place: int) -> str:
        return f"{'row' if self._is_parquet else 'line'} {place} of {name}"


def check_listed(path: str) -> None:
    """Refuse what a path of a manifest must not lead to: reading a pipe or a terminal may wait without end.

    Raises:
        ImageError: it is there, and neither a file nor a folder, which has an error of its own.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise ImageError(f"{path!r} is a device or pipe; a manifest lists files and addresses")


def _copy_of(pipe: Path) -> Path:
    """A temporary file of what comes through ``pipe``; it is the caller's to remove."""
    with open(pipe, "rb") as stream, tempfile.NamedTemporaryFile(prefix="crowd-manifest-", delete=False) as copy:
        path = Path(copy.name)
        try:
            shutil.copyfileobj(stream, copy)
        except BaseException:
            path.unlink()
            raise
    return path
