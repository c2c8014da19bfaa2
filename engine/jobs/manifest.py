"""Manifests: Parquet, CSV or a list of paths and addresses, read in bounded memory, of any length."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.jobs.parquet import import_parquet
from engine.jobs.row import Entry

# Names that a column of addresses may have, if the user names none.
COLUMNS = ("uri", "url", "file", "path", "image")
_BATCH = 4096


@dataclass(frozen=True)
class Manifest:
    """Pictures that are listed in a file.

    Attributes:
        path: a .parquet file, or a folder of such; a .csv file with a header; else a list, a path or address a line.
        column: of the paths or addresses; None is the first of :data:`COLUMNS` that is there.
        id: column of whole numbers that are each picture's own; None numbers the pictures from 0.

    Raises:
        ConfigError: there is no such file or column.
    """

    path: Path
    column: str | None = None
    id: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if not self.path.exists():
            raise ConfigError(f"manifest {self.path} does not exist; expected Parquet, CSV, or a list of addresses")
        if not self._is_parquet and self.path.suffix.lower() != ".csv" and (self.column or self.id):
            raise ConfigError(f"{self.path} is a list without columns; --column and --id are for .parquet and .csv")

    @property
    def _is_parquet(self) -> bool:
        return self.path.is_dir() or self.path.suffix.lower() in (".parquet", ".pq")

    def digest(self) -> str:
        """sha256 of the manifest's bytes: a job goes on with the same manifest alone."""
        total = hashlib.sha256()
        for file in self._files():
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()

    def count(self) -> int | None:
        """Pictures in it, where that can be told without reading it."""
        if not self._is_parquet:
            return None
        parquet = import_parquet()
        return sum(parquet.read_metadata(file).num_rows for file in self._files())

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The pictures from number ``start`` on.

        Raises:
            ConfigError: no such column, or an id that is no whole number.
        """
        rows = self._parquet_rows(start) if self._is_parquet else self._text_rows(start)
        for number, (identity, file) in enumerate(rows, start):
            yield Entry(number if self.id is None else self._whole(identity, number), file)

    def _files(self) -> list[Path]:
        if not self.path.is_dir():
            return [self.path]
        files = sorted(self.path.glob("*.parquet"))
        if not files:
            raise ConfigError(f"no .parquet files in the folder {self.path}; expected a manifest")
        return files

    def _text_rows(self, start: int) -> Iterator[tuple[Any, str]]:
        with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            rows = self._csv_rows(stream) if self.path.suffix.lower() == ".csv" else _listed(stream)
            for number, row in enumerate(rows):
                if number >= start:
                    yield row

    def _csv_rows(self, stream: Any) -> Iterator[tuple[Any, str]]:
        rows = csv.reader(stream)
        column, identity = self._columns(next(rows, []))
        for row in filter(None, rows):
            cells = dict(enumerate(row))
            yield cells.get(identity), cells.get(column, "").strip()

    def _parquet_rows(self, start: int) -> Iterator[tuple[Any, str]]:
        parquet = import_parquet()
        for file in self._files():
            with parquet.ParquetFile(file) as table:
                names = table.schema_arrow.names
                chosen = [names[place] for place in self._columns(names) if place >= 0]
                for group in range(table.num_row_groups):
                    rows = table.metadata.row_group(group).num_rows
                    if start >= rows:
                        start -= rows
                        continue
                    for batch in table.iter_batches(_BATCH, row_groups=[group], columns=chosen):
                        skipped = min(start, batch.num_rows)
                        start -= skipped
                        files, *ids = (batch.column(name)[skipped:].to_pylist() for name in chosen)
                        for number, file in enumerate(files):
                            yield (ids[0][number] if ids else None), str(file or "")

    def _columns(self, names: list[str]) -> tuple[int, int]:
        """Places of the addresses and of the ids; -1 where ids are numbered."""
        wanted = COLUMNS if self.column is None else (self.column,)
        column = next((names.index(name) for name in wanted if name in names), -1)
        if column < 0 or (self.id is not None and self.id not in names):
            missing = self.id if column >= 0 else " or ".join(map(repr, wanted))
            raise ConfigError(f"{self.path} has no column {missing}, but {', '.join(names)}; name it: --column, --id")
        return column, -1 if self.id is None else names.index(self.id)

    def _whole(self, identity: Any, number: int) -> int:
        try:
            return int(str(identity))
        except ValueError:
            raise ConfigError(
                f"row {number} of {self.path} has the id {identity!r:.80}; ids are whole numbers: leave out --id to "
                "number the pictures"
            ) from None


def _listed(stream: Any) -> Iterator[tuple[Any, str]]:
    for line in stream:
        if line.strip():
            yield None, line.strip("\r\n")
