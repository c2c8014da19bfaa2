"""Forked processes: what computes has threads, and those do not come along."""

from __future__ import annotations

import ctypes
import os

from engine.errors import BackendError

_ADVICE = (
    "its threads are not in this one; start processes with multiprocessing.get_context('spawn'), "
    "or make the first CrowdCounter after the fork"
)


class OneProcess:
    """Notes the first process that asks, and refuses those that are forked from it: they would wait for ever.

    >>> first = OneProcess()
    >>> first.check(), first.check()
    (None, None)
    """

    def __init__(self) -> None:
        self._first: int | None = None

    def check(self) -> None:
        """Refuse a process that was forked from the first.

        Raises:
            BackendError: it was.
        """
        if self._first is None:
            self._first = os.getpid()
        if self._first != os.getpid():
            raise BackendError(
                f"CrowdCounters were made in process {self._first}, which this one was forked from; {_ADVICE}"
            )


def keep_for_ever(*things: object) -> None:
    """Never free these, not even as the interpreter ends: in a forked process they would wait for lost threads.

    >>> keep_for_ever([])
    """
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


# Of all backends: none of their runtimes survives a fork.
COUNTING = OneProcess()
