"""``crowd count``: count the people in pictures."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from engine.backends.cuda.driver import CudaOutOfMemoryError
from engine.cli import annotation_output, zones
from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.inputs import Pictures, find_pictures, read_picture
from engine.cli.outputs import (
    STDOUT,
    Write,
    check_output_file,
    csv_writer,
    json_writer,
    plan_saving,
    refuse_shared_files,
    text_line,
)
from engine.cli.terminal import Status, printable, say
from engine.errors import ConfigError, ImageError, NotFiniteError
from engine.system.addresses import hide_passwords
from engine.system.ordered_map import ordered_map

if TYPE_CHECKING:
    from engine.result import CountResult
    from engine.zones.layout import ZoneLayout

# What one picture may do, and the next, or a smaller one, does not.
_OF_ONE_PICTURE = (ImageError, OSError, NotFiniteError, CudaOutOfMemoryError)
# What it does, and examples.
TEXTS = (
    "count the people in pictures",
    "crowd count photos/ 'more/*.jpg' --csv counts.csv --save overlays/\n  cat photo.jpg | crowd count - --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that are this command's own."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder, pattern, or - for standard input")
    parser.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="results as JSON (default: to stdout)")
    parser.add_argument("--csv", nargs="?", const=STDOUT, metavar="FILE", help="results as CSV (default: to stdout)")
    parser.add_argument("--save", metavar="PATH", help="picture with the heads drawn in; a folder for several inputs")
    parser.add_argument("--save-map", metavar="PATH", help="density map as .npy; a folder for several inputs")
    annotation_output.add_arguments(parser)
    zones.add_arguments(parser, alerts=False)
    parser.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    parser.add_argument(
        "--quiet", action="store_true", help="no bar, no warnings, no text; only errors and what was asked for"
    )
    return parser


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Count; 0, or 1 if a picture could not be counted or its files not be written. The others are complete."""
    layout = zones.read_layout(options) if options.zones or options.zone or options.line or options.ignore else None
    pictures = find_pictures(options.inputs)
    _check(options, pictures)
    save = plan_saving(pictures, options.save, options.save_map)
    for argument, reason in pictures.problems:
        say(hide_passwords(f"{argument}: {reason}"))
    if not pictures.paths:
        return Status.FAILED
    failed = bool(pictures.problems)
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(make_counter(options, factory, options.steps)))
        writers = _open_writers(options, stack, layout, pictures.paths)
        given = {} if layout is None else {"zones": layout}
        parallel = counter.parallel if options.performance == "throughput" else 1
        attempts = stack.enter_context(contextlib.closing(_attempts(counter, pictures.paths, given, parallel)))
        bar = stack.enter_context(_progress_bar(attempts, len(pictures.paths), options.quiet))
        for number, (path, result) in enumerate(bar):
            if isinstance(result, Exception):
                failed = True
                _report(bar, path, result)
                continue
            try:
                save(number, result)
            except (ConfigError, OSError) as error:
                # The count is good, whatever becomes of its overlay.
                failed = True
                _report(bar, path, error)
            for write in writers:
                write(path, result)
            _show(bar, path, result, options, layout)
    return Status.FAILED if failed else Status.OK


def _check(options: argparse.Namespace, pictures: Pictures) -> None:
    check_output_file("--json", options.json)
    check_output_file("--csv", options.csv)
    if options.json == options.csv == STDOUT:
        raise ConfigError("--json and --csv cannot both go to stdout; give one of them a FILE")
    outputs = {"--json": options.json, "--csv": options.csv}
    if options.annotations is not None:
        outputs |= annotation_output.check(options, pictures.paths)
    if not pictures.many:
        # Else they are folders, and may be the same one.
        outputs |= {"--save": options.save, "--save-map": options.save_map}
    refuse_shared_files(outputs, pictures.paths)


def _attempts(
    counter: Any, paths: Sequence[str], given: dict[str, Any], parallel: int
) -> Generator[tuple[str, CountResult | Exception]]:
    """Each path with its result, or with why there is none; ``parallel`` of them are counted at once."""

    def attempt(path: str) -> CountResult | Exception:
        try:
            result: CountResult = counter.count(read_picture(path), **given)
        except _OF_ONE_PICTURE as error:
            return error
        return result

    yield from zip(paths, ordered_map(attempt, paths, parallel) if parallel > 1 else map(attempt, paths), strict=True)


def _show(bar: Any, path: str, result: CountResult, options: argparse.Namespace, layout: ZoneLayout | None) -> None:
    """The line for people, unless stdout is for machines, and the warnings."""
    if options.quiet:
        return
    if STDOUT not in (options.json, options.csv):
        line = text_line(path, result) + ("" if layout is None else printable(zones.zones_text(result)))
        bar.write(line, file=sys.stdout)
        sys.stdout.flush()
    for warning in result.warnings:
        bar.write(f"crowd: {printable(path)}: warning: {warning}", file=sys.stderr)


def _report(bar: Any, path: str, error: Exception) -> None:
    # Most errors name the picture themselves.
    message = str(error) if str(error).startswith(path) else f"{path}: {error}"
    bar.write(f"crowd: {printable(message)}", file=sys.stderr)


def _progress_bar(attempts: Iterable[Any], number: int, quiet: bool) -> Any:
    from tqdm import tqdm

    disable = quiet or number < 2 or not sys.stderr.isatty()
    return tqdm(attempts, desc="count", total=number, unit="image", disable=disable, leave=False)


def _open_writers(
    options: argparse.Namespace, stack: contextlib.ExitStack, layout: ZoneLayout | None, paths: Sequence[str]
) -> list[Write]:
    writers = []
    if options.json is not None:
        writers.append(stack.enter_context(json_writer(options.json)))
    if options.csv is not None:
        writers.append(stack.enter_context(csv_writer(options.csv, layout)))
    if options.annotations is not None:
        writers.append(stack.enter_context(annotation_output.writer(options, paths)))
    return writers
