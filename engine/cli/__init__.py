"""The command ``crowd``: one file for each of its parts."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

__all__ = ["main", "run"]

# As a shell reports a program that ended by SIGINT, or by SIGTERM.
_INTERRUPTED, _TERMINATED = 130, 143


def main(argv: Sequence[str] | None = None, counter_factory: Callable[..., Any] | None = None) -> int:
    """See :func:`engine.cli.command.main`, which is imported when it is called: Ctrl-C is quiet from here on."""
    try:
        from engine.cli import command

        return command.main(argv, counter_factory)
    except KeyboardInterrupt:
        # While importing, or for the second time.
        return _INTERRUPTED


def run() -> NoReturn:
    """The console script: :func:`main`, in a process that ends without a traceback whatever happens to its streams."""
    # A stream that was closed before the start is None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.unraisablehook = _interrupt_again
    terminations: list[int] = []

    def terminate(number: int, _: object) -> None:
        # What stops services ends commands as Ctrl-C does: with whole outputs.
        terminations.append(number)
        raise KeyboardInterrupt

    try:
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, terminate)
        status = _main_status()
        # There is nothing left to interrupt, and what ends the interpreter would print tracebacks.
        _ignore_interrupts()
    except KeyboardInterrupt:
        # In the moment between the end of main and the line above.
        _ignore_interrupts()
        status = _INTERRUPTED
    sys.exit(_flushed(_TERMINATED if terminations and status == _INTERRUPTED else status))


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _main_status() -> int | str | None:
    try:
        return main()
    except SystemExit as stop:
        return stop.code


def _interrupt_again(lost: Any) -> None:
    """Where Python cannot raise, in a callback or while it frees something, it would print a traceback and go on."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    later = threading.Timer(0.01, _thread.interrupt_main)
    later.daemon = True
    later.start()


def _flushed(status: int | str | None) -> int | str | None:
    """The exit status, after what was printed is out: 1 in place of 0 if it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        # The interpreter flushes once more when it ends; that must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status or 1
    return status
