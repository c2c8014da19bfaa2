"""Where the rows of ``crowd count`` go: tables with their journal, streams, or Parquet parts."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import annotation_output
from engine.cli.job_options import reading
from engine.cli.job_source import JobSource
from engine.cli.outputs import STDOUT, check_output_file, files_of_settings, open_text, refuse_shared_files
from engine.cli.terminal import Terminal, say
from engine.errors import ConfigError
from engine.jobs.book import Book, journal_path
from engine.jobs.parts import PART_ROWS, Parts
from engine.jobs.row import Entry, Row
from engine.jobs.tables import CsvTable, JsonLinesTable, JsonTable, Table, TableStream
from engine.system.files import is_replaceable

if TYPE_CHECKING:
    from engine.zones.layout import ZoneLayout

_TABLES = ("csv", "json", "jsonl")


def check(options: argparse.Namespace, source: JobSource) -> None:
    """Refuse outputs that would overwrite an input or one another, or that cannot be resumed."""
    files = {f"--{name}": getattr(options, name) for name in _TABLES}
    for option, path in files.items():
        check_output_file(option, path)
    if sum(path == STDOUT for path in files.values()) > 1:
        raise ConfigError("only one of --json, --jsonl and --csv can go to stdout; give the others a FILE")
    if options.out is not None and any(files.values()):
        raise ConfigError("--out has tables of its own; leave out --json, --jsonl and --csv")
    if options.resume and options.out is None and not any(map(_is_file, files.values())):
        raise ConfigError("--resume needs what the job was writing: --csv, --json or --jsonl with a FILE, or --out")
    if options.part_rows is not None and options.part_rows < 1:
        raise ConfigError(f"--part-rows must be at least 1, got {options.part_rows}")
    outputs = files | {"--out": options.out}
    if options.annotations is not None and source.pictures is not None:
        outputs |= annotation_output.check(options, source.pictures.paths)
    if source.pictures is not None and not source.pictures.many:
        # Else they are folders, and may be the same one.
        outputs |= {"--save": options.save, "--save-map": options.save_map}
    if tables := [path for path in files.values() if path is not None and _is_file(path)]:
        outputs |= {"the journal": str(journal_path(tables))}
    inputs = source.pictures.paths if source.pictures is not None else [options.manifest]
    refuse_shared_files(outputs, [*inputs, *files_of_settings(options)])


class JobOutput:
    """Every output that was asked for; a context manager. Whatever ends the job, it leaves the finished rows.

    Attributes:
        done: rows that were there already, of a job that is resumed.
    """

    def __init__(self, options: argparse.Namespace, layout: ZoneLayout | None, counter: Any, source: JobSource):
        self._stack, self._source = contextlib.ExitStack(), source
        self._book: Book | None = None
        self._parts: Parts | None = None
        self._streams: list[TableStream] = []
        self._annotate: Callable[[dict[str, Any]], None] | None = None
        self.done = 0
        tables: dict[str, Table] = {}
        with contextlib.ExitStack() as stack:
            for name, table in (
                ("csv", CsvTable(layout, options.csv_bom)),
                ("json", JsonTable()),
                ("jsonl", JsonLinesTable()),
            ):
                path = getattr(options, name)
                if _is_file(path):
                    tables[path] = table
                elif path is not None:
                    stream = Terminal() if path == STDOUT else stack.enter_context(open_text(path))
                    self._streams.append(stack.enter_context(TableStream(stream, table)))
            if tables:
                self._book = stack.enter_context(open_book(tables, _head(options, counter, layout), options.resume))
                self.done = self._book.rows
            if options.annotations is not None and source.pictures is not None:
                self._annotate = stack.enter_context(annotation_output.writer(options, source.pictures.paths))
                for row in self._book.kept() if self._book is not None else ():
                    self._annotate(row)
            if options.out is not None:
                head = _head(options, counter, layout) | source.identity()
                rows = options.part_rows or PART_ROWS
                self._parts = stack.enter_context(Parts(options.out, head, options.resume, rows))
                self.done = self._parts.done
            self._stack = stack.pop_all()
        if options.resume:
            say(f"{self.done} done already" if self.done else "nothing done yet; beginning")

    def left(self) -> Iterator[Entry]:
        """The pictures that have no row yet."""
        if self._parts is not None:
            return iter(()) if self._parts.is_complete else self._source.entries(self._parts.done)
        if self._book is None or not self.done:
            return self._source.entries(0)
        done = Counter(row["file"] for row in self._book.kept())

        def is_done(entry: Entry) -> bool:
            # A file that is named twice is done twice.
            if not done[entry.file]:
                return False
            done[entry.file] -= 1
            return True

        return itertools.filterfalse(is_done, self._source.entries(0))

    def add(self, row: Row) -> None:
        """Put a row into every output."""
        if self._parts is not None:
            self._parts.add(row)
        record = row.record()
        if self._book is not None:
            self._book.add(record)
        for stream in self._streams:
            stream.add(record)
        if self._annotate is not None:
            self._annotate(record)

    def finish(self) -> None:
        """Every row is there."""
        if self._book is not None:
            self._book.finish()
        if self._parts is not None and not self._parts.is_complete:
            self._parts.finish()

    def __enter__(self) -> JobOutput:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def open_book(tables: Mapping[str, Table], head: dict[str, Any], resume: bool) -> Book:
    """The book of a job, having said where the rows of an earlier one are."""
    book = Book(tables, head, resume)
    if book.notice is not None:
        say(book.notice)
    return book


def _head(options: argparse.Namespace, counter: Any, layout: ZoneLayout | None) -> dict[str, Any]:
    return job_head(counter.settings | reading(options), layout)


def job_head(settings: dict[str, Any], layout: ZoneLayout | None) -> dict[str, Any]:
    """What a job is: what its counts depend on."""
    import engine

    zones = None if layout is None else dataclasses.asdict(layout)
    return {"engine": engine.__version__, **settings, "zones": zones}


def _is_file(path: str | None) -> bool:
    """Whether rows can be kept there."""
    return path is not None and path != STDOUT and is_replaceable(Path(path))
