"""What the engine logs while a command runs: on standard error, as the command's own messages."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator

from engine.cli.terminal import say
from engine.system.addresses import hide_passwords

LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--log-level", choices=LEVELS, help="what the engine tells of its work (default: warning; error with --quiet)"
    )


@contextlib.contextmanager
def shown_logs(options: argparse.Namespace) -> Iterator[None]:
    """Show what is logged, as the options say."""
    level = options.log_level or ("error" if getattr(options, "quiet", False) else "warning")
    logger, handler = logging.getLogger("engine"), _Handler()
    before = logger.level
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """One line for each record."""
        say(hide_passwords(f"{record.levelname.lower()}: {record.getMessage()}"))
