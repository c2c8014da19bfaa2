"""The command ``crowd``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from engine.cli import bench, stream, zones
from engine.cli.inputs import find_pictures, read_picture
from engine.cli.outputs import (
    STDOUT,
    Write,
    check_output_file,
    csv_writer,
    json_writer,
    open_whole,
    plan_saving,
    printable,
    refuse_shared_files,
    text_line,
)
from engine.errors import ConfigError, EngineError, ImageError

if TYPE_CHECKING:
    from engine.zones.layout import ZoneLayout

CounterFactory = Callable[..., Any]

_OK, _FAILED, _USAGE = 0, 1, 2
# As a shell reports a program that ended by SIGINT and by SIGPIPE.
_INTERRUPTED, _PIPE_CLOSED = 130, 141


def main(argv: Sequence[str] | None = None, counter_factory: CounterFactory | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes those of the process.
        counter_factory: makes the counter; None is ``engine.CrowdCounter``.

    Returns:
        Exit status: 0; 1 if something could not be counted; 2 for wrong arguments; 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # argparse would take the options of the two for its own.
        others = {"export": _export, "train": _train}.get(next(iter(arguments), ""))
        status = others(arguments[1:]) if others else _run(arguments, counter_factory)
        sys.stdout.flush()
    except ConfigError as error:
        return _complain(error, _USAGE)
    except (EngineError, OSError) as error:
        return _close_pipe() if isinstance(error, BrokenPipeError) else _complain(error, _FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", _INTERRUPTED)
    return status


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="crowd",
        description="Count the people in pictures.",
        epilog="example: crowd count photo.jpg. Each command has its own: crowd COMMAND --help.",
    )
    parser.add_argument("--version", action="version", version=f"crowd {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_count(commands)
    # The frames of a stream are of one size.
    _add_counter_options(stream.add_arguments(_add_command(commands, "stream", *stream.TEXTS)), "latency")
    _add_eval(commands)
    _add_command(
        commands, "export", "turn a training checkpoint into a bundle", "crowd export runs/default/model.pt my-bundle"
    )
    _add_command(commands, "train", "train a model on annotated pictures", "crowd train DATA --out runs/mine")
    bench.add_arguments(_add_command(commands, "bench", "time a count here", "crowd bench photo.jpg --steps 1 3"))
    doctor = _add_command(commands, "doctor", "show what runs on this machine", "crowd doctor")
    doctor.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


def _add_command(commands: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return added


def _add_count(commands: Any) -> None:
    example = (
        "crowd count photos/ 'more/*.jpg' --csv counts.csv --save overlays/\n  cat photo.jpg | crowd count - --json"
    )
    count = _add_command(commands, "count", "count the people in pictures", example)
    count.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder, pattern, or - for standard input")
    count.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="results as JSON (default: to stdout)")
    count.add_argument("--csv", nargs="?", const=STDOUT, metavar="FILE", help="results as CSV (default: to stdout)")
    count.add_argument("--save", metavar="PATH", help="picture with the heads drawn in; a folder for several inputs")
    count.add_argument("--save-map", metavar="PATH", help="density map as .npy; a folder for several inputs")
    zones.add_arguments(count, alerts=False)
    count.add_argument("--steps", type=int, help="denoising steps (default: the model's own)")
    _add_counter_options(count)
    count.add_argument(
        "--quiet", action="store_true", help="no bar, no warnings, no text; only errors and what was asked for"
    )


def _add_eval(commands: Any) -> None:
    example = "crowd eval ShanghaiTech --split test --steps 1 2 3"
    evaluate = _add_command(commands, "eval", "measure the error on annotated pictures", example)
    layouts = "folder in ShanghaiTech's layout, or images/ with points.json or points.csv"
    evaluate.add_argument("data", metavar="DATA", help=layouts)
    evaluate.add_argument("--split", choices=("train", "test"), help="what lies in test_data/, or all but that")
    evaluate.add_argument("--only-digit", type=int, choices=range(10), metavar="D", help="pictures numbered ...D only")
    evaluate.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    evaluate.add_argument("--steps", type=int, nargs="+", metavar="S", help="denoising steps, one table row each")
    evaluate.add_argument("--json", metavar="FILE", help="write the count of every picture as JSON")
    _add_counter_options(evaluate)
    evaluate.add_argument("--quiet", action="store_true", help="no progress bar")


def _add_counter_options(parser: argparse.ArgumentParser, performance: str = "balanced") -> None:
    parser.add_argument("--model", default="default", help='"default" or the path of a bundle')
    parser.add_argument("--samples", type=int, default=1, help="noise samples to average (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--backend", default="auto", help="auto, openvino, tensorrt or torch (default: auto)")
    parser.add_argument(
        "--compute-type", default="default", help="default, float32, bfloat16, float16 or int8 (default: default)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 is all cores (default: 0)")
    parser.add_argument(
        "--performance",
        default=performance,
        help="on a CPU: balanced, latency (compiles for each size of picture) or throughput (a picture of a stream on "
        "each core) (default: %(default)s)",
    )


def _run(arguments: list[str], counter_factory: CounterFactory | None) -> int:
    options = build_parser().parse_args(arguments)
    if options.command == "doctor":
        from engine.cli import doctor

        return doctor.run(as_json=options.json)
    if options.command == "bench":
        return bench.run(options)
    if options.command == "stream":
        return stream.run(options, lambda: _make_counter(options, counter_factory or _crowd_counter, options.steps))
    run = _count if options.command == "count" else _evaluate
    return run(options, counter_factory or _crowd_counter)


def _crowd_counter(**options: Any) -> Any:
    # Here, so that --help loads no runtime.
    from engine.counter import CrowdCounter

    return CrowdCounter(**options)


def _make_counter(options: argparse.Namespace, factory: CounterFactory, steps: int | None) -> Any:
    return factory(
        model=options.model,
        device=options.device,
        backend=options.backend,
        compute_type=options.compute_type,
        steps=steps,
        samples=options.samples,
        seed=options.seed,
        cpu_threads=options.threads,
        performance=options.performance,
    )


def _count(options: argparse.Namespace, factory: CounterFactory) -> int:
    check_output_file("--json", options.json)
    check_output_file("--csv", options.csv)
    if options.json == options.csv == STDOUT:
        raise ConfigError("--json and --csv cannot both go to stdout; give one of them a FILE")
    layout = zones.read_layout(options) if options.zones or options.zone or options.line else None
    pictures = find_pictures(options.inputs)
    outputs = {"--json": options.json, "--csv": options.csv}
    if not pictures.many:
        # Else they are folders, and may be the same one.
        outputs |= {"--save": options.save, "--save-map": options.save_map}
    refuse_shared_files(outputs, pictures.paths)
    save = plan_saving(pictures, options.save, options.save_map)
    for argument, reason in pictures.problems:
        _complain(f"{argument}: {reason}", _FAILED)
    failed = bool(pictures.problems)
    if not pictures.paths:
        return _FAILED
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(contextlib.closing(_make_counter(options, factory, options.steps)))
        writers = _open_writers(options, stack, layout)
        given = {} if layout is None else {"zones": layout}
        bar = stack.enter_context(_progress_bar(pictures.paths, options.quiet))
        for number, path in enumerate(bar):
            try:
                result = counter.count(read_picture(path), **given)
            except (ImageError, OSError) as error:
                failed = True
                _report(bar, path, error)
                continue
            try:
                save(number, result)
            except (ConfigError, OSError) as error:
                # The count is good, whatever becomes of its overlay.
                failed = True
                _report(bar, path, error)
            for write in writers:
                write(path, result)
            if not (options.quiet or STDOUT in (options.json, options.csv)):
                line = text_line(path, result) + ("" if layout is None else printable(zones.zones_text(result)))
                bar.write(line, file=sys.stdout)
                sys.stdout.flush()
            for warning in () if options.quiet else result.warnings:
                bar.write(f"crowd: {printable(path)}: warning: {warning}", file=sys.stderr)
    return _FAILED if failed else _OK


def _report(bar: Any, path: str, error: Exception) -> None:
    # Most errors name the picture themselves.
    message = str(error) if str(error).startswith(path) else f"{path}: {error}"
    bar.write(f"crowd: {printable(message)}", file=sys.stderr)


def _progress_bar(paths: Sequence[str], quiet: bool) -> Any:
    from tqdm import tqdm

    disable = quiet or len(paths) < 2 or not sys.stderr.isatty()
    return tqdm(paths, desc="count", unit="image", disable=disable, leave=False)


def _open_writers(options: argparse.Namespace, stack: contextlib.ExitStack, layout: ZoneLayout | None) -> list[Write]:
    writers = []
    if options.json is not None:
        writers.append(stack.enter_context(json_writer(options.json)))
    if options.csv is not None:
        writers.append(stack.enter_context(csv_writer(options.csv, layout)))
    return writers


def _evaluate(options: argparse.Namespace, factory: CounterFactory) -> int:
    try:
        from engine.training.dataset import find_samples
        from engine.training.evaluate import evaluate
    except ModuleNotFoundError as error:
        return _missing_extra(error, "eval")
    check_output_file("--json", options.json)
    samples = find_samples(options.data, options.split)
    samples = [s for s in samples if options.only_digit in (None, s.number % 10)][: options.limit]
    if not samples:
        raise ConfigError(f"no picture of {options.data} is left after --only-digit and --limit")
    with contextlib.closing(_make_counter(options, factory, None)) as counter:
        evaluation = evaluate(counter, samples, options.steps or [None], not options.quiet and sys.stderr.isatty())
    print(evaluation.table())
    if options.json is not None:
        with open_whole(options.json) as file:
            file.write(json.dumps(evaluation.to_dicts(), indent=1) + "\n")
    return _OK


def _export(arguments: list[str]) -> int:
    try:
        from engine.export.__main__ import main as export
    except ModuleNotFoundError as error:
        return _missing_extra(error, "export")
    return export(arguments) or _OK


def _train(arguments: list[str]) -> int:
    try:
        from engine.training.__main__ import main as train
    except ModuleNotFoundError as error:
        return _missing_extra(error, "train")
    train(["train", *arguments], prog="crowd")
    return _OK


def _missing_extra(error: ModuleNotFoundError, extra: str) -> int:
    # A missing module of our own is a broken install, which no extra mends.
    if (error.name or "engine").partition(".")[0] == "engine":
        raise error
    return _complain(f"this command needs {error.name}: pip install 'crowd-engine[{extra}]'", _FAILED)


def _version() -> str:
    try:
        return metadata.version("crowd-engine")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _complain(problem: object, status: int) -> int:
    print(f"crowd: {printable(str(problem))}", file=sys.stderr)
    return status


def _close_pipe() -> int:
    # The interpreter flushes stdout once more when it ends; that must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _PIPE_CLOSED


if __name__ == "__main__":
    sys.exit(main())
