"""``crowd count``: count the people in pictures."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from engine.cli import annotation_output, job_options, zones
from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.needed_options import refuse_alone
from engine.cli.outputs import STDOUT, plan_saving, text_line
from engine.cli.terminal import Status, printable, say
from engine.errors import ConfigError
from engine.system.addresses import hide_passwords

if TYPE_CHECKING:
    from engine.cli.job_output import JobOutput
    from engine.cli.job_source import JobSource
    from engine.jobs.row import Entry, Row
    from engine.result import CountResult
    from engine.zones.layout import ZoneLayout

# What it does, and examples.
TEXTS = (
    "count the people in pictures",
    "crowd count photos/ 'more/*.jpg' --csv counts.csv --save overlays/\n  cat photo.jpg | crowd count - --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that are this command's own."""
    job_options.add_source_arguments(parser)
    job_options.add_output_arguments(parser)
    annotation_output.add_arguments(parser)
    zones.add_arguments(parser, alerts=False)
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    parser.add_argument(
        "--quiet", action="store_true", help="no bar, no warnings, no text; only errors and what was asked for"
    )


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Count; 0, or 1 if a picture could not be counted or its files not be written. The others are complete."""
    # Here, so that --help loads no array library.
    from engine.cli import job_output, job_source

    refuse_alone(options, job_options.NEEDED)
    layout = zones.read_layout(options) if options.zones or options.zone or options.line or options.ignore else None
    source = job_source.open_source(options)
    job_output.check(options, source)
    if options.ray is not None:
        from engine.cli import ray_job

        return ray_job.run(options, layout, source)
    save = plan_saving(source.pictures, options.save, options.save_map)
    problems = source.pictures.problems if source.pictures is not None else ()
    for argument, reason in problems:
        say(hide_passwords(f"{argument}: {reason}"))
    if source.total == 0:
        return Status.FAILED
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(make_counter(options, factory, options.steps)))
        output = stack.enter_context(job_output.JobOutput(options, layout, counter, source))
        failed = _count(options, counter, source, output, save, layout)
    return Status.FAILED if failed or problems else Status.OK


def _count(
    options: argparse.Namespace,
    counter: Any,
    source: JobSource,
    output: JobOutput,
    save: Callable[[int, CountResult], None],
    layout: ZoneLayout | None,
) -> bool:
    """Count what has no row yet; whether anything failed."""
    from engine.cli.job_source import fetch_limits
    from engine.jobs.counting import count_entries
    from engine.jobs.fetch import Fetcher

    unsaved: dict[int, str] = {}
    keep = _keeper(save, unsaved)
    given = job_options.reading(options) | ({} if layout is None else {"zones": layout})
    counted = people = failed = 0
    # One more than are counted at once: it reads and decodes meanwhile.
    workers = 1 if source.total == 1 else 1 + (counter.parallel if options.performance == "throughput" else 1)
    with Fetcher(fetch_limits(options)) as fetcher, contextlib.ExitStack() as stack:
        rows = count_entries(
            output.left(), lambda picture: counter.count(source.read(picture), **given), fetcher, workers, keep
        )
        stack.enter_context(contextlib.closing(rows))
        bar = stack.enter_context(_progress_bar(rows, source, output, options))
        for row in bar:
            output.add(row)
            problem = row.error or unsaved.pop(row.id, None)
            failed += problem is not None
            if row.found is not None:
                counted, people = counted + 1, people + row.found["count"]
            _show(bar, row, problem, options, layout)
        output.finish()
    if source.total != 1 and not options.quiet:
        say(f"{counted} pictures counted, {people} people in them" + (f"; {failed} with an error" if failed else ""))
    return bool(failed)


def _keeper(save: Callable[[int, CountResult], None], unsaved: dict[int, str]) -> Callable[[Entry, CountResult], None]:
    """Saves a result, or notes in ``unsaved`` why it cannot be."""

    def keep(entry: Entry, result: CountResult) -> None:
        try:
            save(entry.id, result)
        except (ConfigError, OSError) as error:
            # The count is good, whatever becomes of its overlay.
            unsaved[entry.id] = str(error)

    return keep


def _show(bar: Any, row: Row, problem: str | None, options: argparse.Namespace, layout: ZoneLayout | None) -> None:
    """What went wrong; the line for people, unless stdout is for machines; and the warnings."""
    if problem is not None:
        # Most errors name the picture themselves, some in quotes.
        message = problem if problem.startswith((row.file, repr(row.file))) else f"{row.file}: {problem}"
        bar.write(f"crowd: {printable(hide_passwords(message, [row.file]))}", file=sys.stderr)
    if options.quiet or row.found is None:
        return
    record = row.record()
    # A manifest is long: its rows are shown where they go nowhere else.
    tables = [table for table in (options.json, options.jsonl, options.csv, options.out) if table is not None]
    if STDOUT not in tables and not (tables and options.manifest):
        line = text_line(record) + ("" if layout is None else printable(zones.zones_text(record)))
        bar.write(line, file=sys.stdout)
        sys.stdout.flush()
    for warning in () if options.manifest else record["warnings"]:
        bar.write(f"crowd: {printable(row.file)}: warning: {warning}", file=sys.stderr)


def _progress_bar(rows: Iterable[Row], source: JobSource, output: JobOutput, options: argparse.Namespace) -> Any:
    from tqdm import tqdm

    disable = options.quiet or source.total == 1 or not sys.stderr.isatty()
    return tqdm(rows, desc="count", total=source.total, initial=output.done, unit="image", disable=disable, leave=False)
