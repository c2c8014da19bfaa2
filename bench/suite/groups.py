"""A group: several ways of computing one thing. Each is checked first, and a wrong one is never timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.cli.timing import Stint, Timing, interleave, wall
from engine.errors import EngineError
from suite.results import Row

# What a way raises whose library, device or instructions are not there.
MISSING = (EngineError, ImportError)


class MissingError(EngineError):
    """A way cannot run here."""


class WrongResultError(AssertionError):
    """A way computes something else than the oracle."""


@dataclass(frozen=True)
class Way:
    """One way of computing something, ready to run.

    Attributes:
        call: computes it once and returns what is checked.
        stint: times it where the clock of the host cannot, or keeps more than the time; None times ``call``.
        close: frees what it holds.
        records: ``stint`` keeps something of each of its calls, the last of which are those that are timed: what warms
            them up is then ``call``.
    """

    call: Callable[[], Any]
    stint: Stint | None = None
    close: Callable[[], object] = lambda: None
    records: bool = False


@dataclass(frozen=True)
class Group:
    """Ways to compare, in one process run and in turns.

    Attributes:
        name: such as "criss_cross_attention".
        case: what is computed, in words and numbers, such as "1x96x128, D 32, C 64".
        ways: by label, what makes each ready; raises one of :data:`MISSING` where it cannot run.
        check: raises :class:`WrongResultError` if the output of the way of a label is wrong.
        settings: columns of the rows that all ways share; see :class:`suite.results.Row`.
        figures: further columns of a way's row, from its label and timing.
        more_rows: further rows of a way.
    """

    name: str
    case: str
    ways: Mapping[str, Callable[[], Way]]
    check: Callable[[str, Any], None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    figures: Callable[[str, Timing], Mapping[str, Any]] = lambda label, timing: {}
    more_rows: Callable[[str, Timing], Sequence[Row]] = lambda label, timing: ()


@dataclass(frozen=True)
class Budget:
    """How long a group is timed for.

    Attributes:
        seconds: for all of its ways together.
        least, most: rounds.
        slowest: seconds; a way whose call takes longer is left out, as its rounds would leave the others no time.
    """

    seconds: float
    least: int = 5
    most: int = 50
    slowest: float = 10.0


@dataclass(frozen=True)
class Case:
    """A group that is made when it is its turn.

    Attributes:
        name: for the user.
        make: the group.
        labels: of the ways that there could be.
        budget: to time them for.
    """

    name: str
    make: Callable[[], Group]
    labels: tuple[str, ...]
    budget: Budget


@dataclass(frozen=True)
class Measured:
    """What came of a group: timings by label; the others, and why they were refused or could not run."""

    group: Group
    timings: Mapping[str, Timing]
    refused: Mapping[str, str]
    missing: Mapping[str, str]


def measure(group: Group, labels: Sequence[str], budget: Budget) -> Measured:
    """Check the ways called ``labels``, and time those that are right, in turns."""
    ready: dict[str, Way] = {}
    stints: dict[str, Stint] = {}
    lengths: dict[str, float] = {}
    refused, missing = {}, {}
    try:
        for label in labels:
            try:
                ready[label] = way = group.ways[label]()
                start = time.perf_counter()
                output = way.call()
                length = 1e3 * (time.perf_counter() - start)
                group.check(label, output)
                # The first call also warms up; of a long one that is a small part, unless it compiled something.
                if length < _LONG or length > 1e3 * budget.slowest:
                    length = (way.stint or wall(way.call))(1)
            except WrongResultError as error:
                refused[label] = str(error)
            except MISSING as error:
                missing[label] = str(error) or type(error).__name__
            except Exception as error:
                # The others are still to be timed; this one is reported, and fails its test.
                refused[label] = f"it fails: {type(error).__name__}: {error}"
            else:
                if length > 1e3 * budget.slowest:
                    slow = f"one call takes {length / 1e3:.1f} s, more than the {budget.slowest:g} s given to each"
                    missing[label] = slow
                    continue
                lengths[label], stints[label] = length, way.stint or wall(way.call)
        timings = {}
        if stints:
            leads = {label: wall(ready[label].call) for label in stints if ready[label].records}
            timings = interleave(stints, budget.seconds, budget.least, budget.most, lengths=lengths, leads=leads)
    finally:
        for way in ready.values():
            way.close()
    return Measured(group, timings, refused, missing)


def hopeless(measured: Measured, ratio: float = 20.0) -> dict[str, str]:
    """Ways that are not worth the time in larger cases, and why: the fastest takes ``ratio`` times less."""
    if not measured.timings:
        return {}
    medians = {label: timing.percentile(50) for label, timing in measured.timings.items()}
    fastest = min(medians.values())
    return {
        label: f"it took {median / fastest:.0f} times as long as the fastest at {measured.group.case}"
        for label, median in medians.items()
        if median > ratio * fastest
    }


# Milliseconds from which on a call is not repeated to find out how long it takes.
_LONG = 500.0
