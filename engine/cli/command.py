"""The command ``crowd``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType
from typing import Any, NoReturn

from engine.cli import bench, count, counter_options, evaluate, logs, serve, stream, watch, zone_editor
from engine.cli.counter_options import CounterFactory
from engine.cli.extras import needs_extra
from engine.cli.terminal import Status, say
from engine.errors import ConfigError, EngineError, is_interrupt
from engine.system.addresses import hide_passwords

# The commands that count: the module of each, and the default of its --performance.
_COUNTING: dict[str, tuple[ModuleType, str]] = {
    "count": (count, "balanced"),
    # The frames of a stream are of one size.
    "stream": (stream, "latency"),
    # Cameras are of several sizes, and no model is compiled for each.
    "watch": (watch, "throughput"),
    "eval": (evaluate, "balanced"),
    "zones": (zone_editor, "balanced"),
    "serve": (serve, "throughput"),
}


def main(argv: Sequence[str] | None = None, counter_factory: CounterFactory | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None takes those of the process.
        counter_factory: makes the counter; None is ``engine.CrowdCounter``.

    Returns:
        Exit status, of every command: 0; 1 if something failed, such as a picture or bundle that cannot be read, or one
        of several; 2 for wrong arguments (what argparse refuses, and :class:`ConfigError`, such as a data folder that
        is not there); 130 after Ctrl-C, but 0 of a server, which has no other end; 141 when nobody reads standard
        output any more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # argparse would take the options of the two for its own.
        others = {"export": _export, "train": _train}.get(next(iter(arguments), ""))
        status = others(arguments[1:]) if others else _run(arguments, counter_factory)
        sys.stdout.flush()
    except BrokenPipeError:
        return _close_pipe()
    except (EngineError, OSError) as error:
        say(hide_passwords(str(error)))
        return Status.USAGE if isinstance(error, ConfigError) else Status.FAILED
    except (KeyboardInterrupt, Exception) as error:
        # The lock of a progress bar, say, is released before it was taken.
        if not is_interrupt(error):
            raise
        say("interrupted")
        return Status.INTERRUPTED
    return status


class _Parser(argparse.ArgumentParser):
    """Tells of a wrong argument without the passwords in it."""

    def error(self, message: str) -> NoReturn:
        super().error(hide_passwords(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(
        prog="crowd",
        description="Count the people in pictures.",
        epilog="example: crowd count photo.jpg. Each command has its own: crowd COMMAND --help.",
    )
    parser.add_argument("--version", action="version", version=f"crowd {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, performance) in _COUNTING.items():
        added = _add_command(commands, name, *module.TEXTS)
        module.add_arguments(added)
        counter_options.add_arguments(added, performance)
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
    logs.add_arguments(added)
    return added


def _run(arguments: list[str], counter_factory: CounterFactory | None) -> int:
    options = build_parser().parse_args(arguments)
    with logs.shown_logs(options):
        if options.command == "doctor":
            from engine.cli import doctor

            return doctor.run(as_json=options.json)
        if options.command == "bench":
            return bench.run(options)
        module, _ = _COUNTING[options.command]
        status: int = module.run(options, counter_factory or _crowd_counter)
        return status


def _crowd_counter(**options: Any) -> Any:
    # Here, so that --help loads no runtime.
    from engine.counter import CrowdCounter

    return CrowdCounter(**options)


def _export(arguments: list[str]) -> int:
    with needs_extra("export"):
        from engine.export.__main__ import run as export
    return export(arguments) or Status.OK


def _train(arguments: list[str]) -> int:
    with needs_extra("train"):
        from engine.training.__main__ import run as train
    train(["train", *arguments], prog="crowd")
    return Status.OK


def _version() -> str:
    try:
        return metadata.version("crowd-engine")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _close_pipe() -> int:
    # The interpreter flushes stdout once more when it ends; that must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Status.PIPE_CLOSED


if __name__ == "__main__":
    sys.exit(main())
