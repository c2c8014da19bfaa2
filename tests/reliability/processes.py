"""Processes that the reliability tests start, and how they are limited, stopped and looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if os.name == "posix":
    import resource

TESTS = Path(__file__).parent.parent
# Seconds in which a process that gets on takes some processor time, on the busiest machine too: only a hang reaches it.
HANG_S = 900
# What one that hangs may take in them, to look whether anything has come.
_STILL_S = 1.0
# Seconds of processor time, many times what most of these processes take: only an endless loop reaches it.
LOOP_S = 900


def python(*arguments: str | Path) -> list[str]:
    """A command line of this Python; -P, so that the source folder is not imported in place of the installed one."""
    return [sys.executable, "-P", *(str(x) for x in arguments)]


def environment(**changes: str) -> dict[str, str]:
    """This process's, with ``tests`` to import from."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, **changes}


@contextmanager
def started(
    command: Sequence[str],
    memory: int | None = None,
    processor_s: int = LOOP_S,
    env: dict[str, str] | None = None,
    **options: Any,
) -> Iterator[Any]:
    """A process whose output is read from pipes; killed where it hangs, and at the latest at the end.

    Args:
        memory: bytes of address space that it may take; None is no limit.
        processor_s: seconds of processor time that it may take.
        options: of ``subprocess.Popen``.
    """

    def limit() -> None:
        # At the first limit comes a signal that says why, at the second SIGKILL.
        resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s + 10))
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": env or environment()}
    if os.name == "posix":
        options["preexec_fn"] = limit
    with subprocess.Popen(command, **options) as process:
        over = threading.Event()
        watcher = threading.Thread(target=_kill_where_it_hangs, args=(process, over), daemon=True)
        watcher.start()
        try:
            yield process
        finally:
            process.kill()
            over.set()
            watcher.join()


def run(command: Sequence[str], **options: Any) -> Any:
    """Run to the end, with the options of :func:`started`; the output is text. A hang ends by SIGKILL or SIGXCPU."""
    with started(command, text=True, **options) as process:
        output, errors = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _kill_where_it_hangs(process: Any, over: threading.Event) -> None:
    before = _processor_time(process.pid)
    while not over.wait(HANG_S):
        now = _processor_time(process.pid)
        if now - before < _STILL_S:
            process.kill()
            return
        before = now


def _processor_time(pid: int) -> float:
    """Seconds of processor time of a process and of the children that it has waited for."""
    try:
        # Behind the name, which may hold anything, come the state and other numbers; see proc(5).
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    except OSError:
        # It has ended, or this is not Linux: HANG_S is then of the clock alone.
        return 0.0
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def describe(done: Any) -> str:
    """How it ended, for the message of a failed test."""
    code = done.returncode
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    return f"ended with {how}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
