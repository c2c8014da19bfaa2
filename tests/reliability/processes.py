"""Processes that the reliability tests start, and how they are limited, stopped and looked at."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
# Much longer than anything here takes: only a hang reaches it.
HANG_S = 900


def python(*arguments: str | Path) -> list[str]:
    """A command line of this Python; -P, so that the source folder is not imported in place of the installed one."""
    return [sys.executable, "-P", *(str(x) for x in arguments)]


def environment(**changes: str) -> dict[str, str]:
    """This process's, with ``tests`` to import from."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, **changes}


def run(command: Sequence[str], memory: int | None = None, env: dict[str, str] | None = None, **options: Any) -> Any:
    """Run to the end; text output, and no more than ``memory`` bytes of address space.

    Raises:
        subprocess.TimeoutExpired: it hangs.
    """

    def limit() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=env or environment(),
        timeout=HANG_S,
        preexec_fn=limit,
        **options,
    )


def describe(done: Any) -> str:
    """How it ended, for the message of a failed test."""
    code = done.returncode
    how = signal.Signals(-code).name if code < 0 else f"status {code}"
    return f"ended with {how}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
