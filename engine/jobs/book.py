"""What a job writes as it goes on: its journal, and the tables that were asked for."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.jobs.journal import Journal
from engine.jobs.tables import Table, TableFile


class Book:
    """Tables that have every finished row, and a journal beside them while the job is not done; a context manager.

    Whatever ends the job but SIGKILL and the like, the tables take their names then, with the rows that they have. The
    journal is the file NAME.journal beside the first of them, and is removed by :meth:`finish`.

    Args:
        tables: by path, at least one.
        head: what the job is; see :class:`engine.jobs.journal.Journal`.
        resume: go on with the journal that is there: its rows are put into the tables. Where neither journal nor tables
            are there, the job begins.

    Attributes:
        notice: where the rows are that an earlier job had left, and how to go on with them; None if there were none, or
            they are resumed.
        rows: number of rows that were taken over from the journal.

    Raises:
        ConfigError: ``resume``, and a table is there without a journal: the job that wrote it is done.
        ConfigError, EngineError, OSError: as of the journal.
    """

    def __init__(self, tables: Mapping[str, Table], head: dict[str, Any], resume: bool):
        path = journal_path(tables)
        if resume and not path.exists():
            _refuse_done(tables)
        with contextlib.ExitStack() as stack:
            self._journal = stack.enter_context(Journal(path, head, resume))
            self.rows, self.notice = self._journal.count, _notice(self._journal)
            self._tables = [TableFile(name, table) for name, table in tables.items()]
            for table in self._tables:
                # What was there before is better than a part of the rows that are taken over.
                stack.callback(table.discard)
                table.open()
            self._catch_up()
            stack.pop_all()

    def kept(self) -> Iterator[dict[str, Any]]:
        """Every row so far, as it was added."""
        return self._journal.rows()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row: an object for the tables.

        Raises:
            OSError: it cannot be written; the journal and each table have it whole or not at all.
        """
        self._journal.append(row)
        for table in self._tables:
            table.add(row)

    def finish(self) -> None:
        """End the tables, and remove the journal: every row is there."""
        for table in self._tables:
            table.close()
        self._journal.close(remove=True)

    def __enter__(self) -> Book:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            with contextlib.suppress(OSError):
                # A signal may have come after the journal had a row, and before a table had it.
                self._catch_up()
            for table in self._tables:
                table.close(failed=kind is not None)
        finally:
            self._journal.close()

    def _catch_up(self) -> None:
        for table in self._tables:
            if table.rows < self._journal.count:
                for row in itertools.islice(self._journal.rows(), table.rows, None):
                    table.add(row)


def _refuse_done(tables: Iterable[str]) -> None:
    for name in tables:
        if Path(name).exists():
            raise ConfigError(
                f"{name} has no journal beside it, so the job that wrote it is done; leave out --resume to count all "
                "again and replace it, or name another file"
            )


def _notice(journal: Journal) -> str | None:
    if journal.set_aside is None:
        return None
    return (
        f"{journal.set_aside} has the rows of a job that was stopped; to go on with that one, rename it to "
        f"{journal.path.name}, and add --resume"
    )


def journal_path(tables: Iterable[str]) -> Path:
    """Where the journal of a job with these tables is: beside that which has one already, else beside the first."""
    paths = [Path(name).resolve() for name in tables]
    journals = [path.with_name(f"{path.name}.journal") for path in paths]
    return next((path for path in journals if path.exists()), journals[0])
