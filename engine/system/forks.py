"""Forked processes: what computes has threads, and those do not come along."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol

from engine.errors import BackendError

_ADVICE = (
    "its threads are not in this one; start processes with multiprocessing.get_context('spawn'), "
    "or make the first CrowdCounter after the fork"
)


class Abandonable(Protocol):
    """What a forked process must not use, nor free."""

    def abandon(self) -> None:
        """Called in the forked process: leave everything as it is."""


class OneProcess:
    """Notes the first process that asks, and refuses those that are forked from it, where waiting would not end.

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


# All backends share it: none of their runtimes survives a fork.
COUNTING = OneProcess()
_LIVE: weakref.WeakSet[Abandonable] = weakref.WeakSet()


def abandon_after_fork(thing: Abandonable) -> None:
    """Have ``thing.abandon()`` called in every process that is forked from this one while the thing lives."""
    _LIVE.add(thing)


def never_free(*things: object) -> None:
    """Keep these even when the interpreter ends: in a forked process, freeing them would wait for lost threads.

    >>> never_free([])
    """
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _abandon_all() -> None:
    for thing in list(_LIVE):
        thing.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
