"""``crowd eval``: the error on annotated pictures."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.extras import needs_extra
from engine.cli.outputs import check_output_file, files_of_settings, refuse_shared_files
from engine.cli.terminal import Status
from engine.dataset import options as dataset
from engine.dataset.formats import SPLITS
from engine.errors import ConfigError
from engine.image.folders import walk
from engine.jobs.book import journal_path

if TYPE_CHECKING:
    from engine.jobs.book import Book

# What it does, and an example.
TEXTS = ("measure the error on annotated pictures", "crowd eval ShanghaiTech --split test --steps 1 2 3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are this command's own."""
    dataset.add_arguments(parser)
    parser.add_argument("--split", choices=SPLITS, help="pictures in folders called so; train is all others too")
    parser.add_argument(
        "--only-digit",
        type=int,
        action="append",
        choices=range(10),
        metavar="D",
        help="pictures numbered ...D only; can be given several times",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    parser.add_argument("--steps", type=int, nargs="+", metavar="S", help="denoising steps, one table row each")
    parser.add_argument("--json", metavar="FILE", help="write the count of every picture as JSON")
    parser.add_argument(
        "--against", metavar="FILE", help="what --json wrote of another model: print how each part's errors changed"
    )
    parser.add_argument("--resume", action="store_true", help="go on with a job that was stopped; without one, begin")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Count and print a table; 0."""
    with needs_extra("eval"):
        from engine.evaluation.evaluate import Row, evaluate
        from engine.evaluation.paired import check_comparable, compare, read_rows, table

    _check_json(options)
    if options.resume and options.json is None:
        raise ConfigError("--resume needs what the job was writing: --json FILE")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {options.limit}")
    if options.performance == "throughput":
        raise ConfigError(
            "crowd eval times pictures one by one, and --performance throughput would use one core for each"
        )
    earlier = None if options.against is None else read_rows(options.against)
    samples = dataset.read_samples(options, *[options.split] if options.split else [])
    samples = [s for s in samples if not options.only_digit or s.number % 10 in options.only_digit][: options.limit]
    if not samples:
        raise ConfigError(f"no picture of {options.data} is left after --only-digit and --limit")
    if earlier is not None:
        check_comparable(earlier, samples, options.steps or [None])
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(make_counter(options, factory, None)))
        book = None if options.json is None else stack.enter_context(_open_book(options, counter))
        evaluation = evaluate(
            counter,
            samples,
            options.steps or [None],
            not options.quiet and sys.stderr.isatty(),
            [] if book is None else map(Row.from_dict, book.kept()),
            lambda row: None if book is None else book.add(row.to_dict()),
        )
        if book is not None:
            book.finish()
    print(evaluation.table())
    if earlier is not None:
        print(f"\nagainst {options.against}, picture by picture:\n{table(compare(earlier, evaluation.rows))}")
    return Status.OK


def _check_json(options: argparse.Namespace) -> None:
    """Refuse to write the rows over an input; the rows of an earlier evaluation may lie among the data."""
    check_output_file("--json", options.json)
    inputs = [options.against] if options.against is not None else []
    if options.json is not None and os.path.isfile(options.json) and not _has_rows(options.json):
        places = [Path(place) for place in (options.data, options.annotations) if place is not None]
        folders = {place if place.is_dir() else place.parent for place in places}
        # Reading the data will say that a folder cannot be read.
        found = (place for folder in folders for place in walk(folder, lambda _: None))
        inputs += [str(folder / name) for folder, names in found for name in names]
    journal = None if options.json is None else str(journal_path([options.json]))
    refuse_shared_files({"--json": options.json, "the journal": journal}, [*inputs, *files_of_settings(options)])


def _has_rows(path: str) -> bool:
    from engine.evaluation.paired import read_rows

    try:
        read_rows(path)
    except ConfigError:
        return False
    return True


def _open_book(options: argparse.Namespace, counter: Any) -> Book:
    """The JSON file, which has every finished row whatever ends the command."""
    from engine.cli.job_output import job_head, open_book
    from engine.jobs.tables import JsonTable

    return open_book({options.json: JsonTable()}, job_head(counter.settings, None), options.resume)
