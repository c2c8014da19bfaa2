"""Parquet files: the package that reads them, and errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, EngineError


def import_parquet() -> Any:
    """``pyarrow.parquet``.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise EngineError(f"Parquet needs {error.name}: pip install 'crowd-engine[batch]'") from error
    return pyarrow.parquet


@contextlib.contextmanager
def read_errors(name: str | Path) -> Iterator[None]:
    """Turns what reading a file fails with, whenever it does, into a ConfigError that has its ``name``."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{name} cannot be read as Parquet: {error}; it is damaged or something else: make it anew"
        ) from error


def row_count(file: Path, name: str | Path | None = None) -> int:
    """Rows of a file, which users may call by another ``name``.

    Raises:
        ConfigError: it cannot be read.
    """
    parquet = import_parquet()
    with read_errors(name or file):
        rows: int = parquet.read_metadata(file).num_rows
        return rows
