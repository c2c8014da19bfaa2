"""The files of a manifest, row by row: (line or row in the file, id, path or address)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.jobs.parquet import import_parquet, read_errors

if TYPE_CHECKING:
    import pyarrow

Listed = tuple[int, Any, str]
# Places of the addresses and of the ids among the names of a file's columns; -1 where ids are numbered.
Columns = Callable[[list[str]], tuple[int, int]]
_BATCH = 4096
_TEXT = ("string", "large_string", "string_view")


def list_rows(file: Path, name: str) -> Iterator[Listed]:
    """The lines of a list that are not empty, with their numbers from 1; without ids.

    Raises:
        ConfigError: ``name``, as users call the file, is no list, but a workbook or the like.
    """
    with _open(file) as stream:
        for line, text in enumerate(stream, 1):
            if "\0" in text:
                raise ConfigError(
                    f"line {line} of {name} has a zero byte, which no path has; expected a path or address a line in "
                    "UTF-8, or a .csv or .parquet file"
                )
            if text.strip():
                yield line, None, text.strip("\r\n")


def csv_rows(file: Path, name: str, columns: Columns) -> Iterator[Listed]:
    """The rows of a CSV file with a header, with the number of the line that each begins in.

    Raises:
        ConfigError: ``name``, as users call the file, is not CSV from some line on.
    """
    with _open(file) as stream:
        rows, line = csv.reader(stream), 1
        try:
            column, identity = columns(next(rows, []))
            line = rows.line_num + 1
            for row in rows:
                if row:
                    yield line, _cell(row, identity), (_cell(row, column) or "").strip()
                line = rows.line_num + 1
        except csv.Error as error:
            raise ConfigError(
                f"line {line} of {name} cannot be read as CSV: {error}; a quotation mark without another one takes in "
                "the lines behind it"
            ) from error


def parquet_rows(file: Path, name: str, columns: Columns, start: int) -> Iterator[Listed]:
    """The rows of a Parquet file from number ``start`` on, numbered from 0.

    Raises:
        ConfigError: the file cannot be read, or the column of its addresses has no text.
    """
    parquet = import_parquet()
    with read_errors(name), parquet.ParquetFile(file) as table:
        schema = table.schema_arrow
        places = [place for place in columns(schema.names) if place >= 0]
        _check_text(schema.field(places[0]), name)
        chosen, number = [schema.names[place] for place in places], 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            if start >= number + rows:
                number += rows
                continue
            for batch in table.iter_batches(_BATCH, row_groups=[group], columns=chosen):
                skipped = min(max(0, start - number), batch.num_rows)
                files, *ids = (batch.column(column)[skipped:].to_pylist() for column in chosen)
                for place, uri in enumerate(files):
                    yield number + skipped + place, (ids[0][place] if ids else None), uri or ""
                number += batch.num_rows


def _cell(row: list[str], place: int) -> str | None:
    return row[place] if 0 <= place < len(row) else None


def _check_text(field: pyarrow.Field, name: str) -> None:
    """Refuse pictures themselves, and structures around them: they would be taken for names of files."""
    import pyarrow.types

    kind = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
    if str(kind) not in _TEXT:
        raise ConfigError(
            f"the column {field.name!r} of {name} is of the type {field.type}; expected strings, paths or addresses: "
            "name another one with --column, or convert it"
        )


def _open(file: Path) -> IO[str]:
    return open(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
