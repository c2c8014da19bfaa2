"""Compares two result files and names regressions beyond the noise of both runs: ``python bench/compare.py OLD NEW``.

Exit status: 0, 1 if something got slower, 2 if the files cannot be compared.

A figure has regressed if its median grew by more than it, and the machine, varied by themselves: the larger noise of
the two rows (see ``engine.cli.timing.Timing``), plus the larger drift of the two runs' fixed computation, plus how far
that computation's speed differs between the runs, plus what two processes differ by though nothing changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from suite.results import Results, Row, read

# Two processes lay out their memory differently, which moves kernels of a few microseconds by some per cent.
BETWEEN_PROCESSES = 0.03
# These entries of the machine's description must agree: another machine has other times.
_SAME = ("cpu", "cores", "gpus")
_WORSE_IF_LARGER = ("ms", "MB")


@dataclass(frozen=True)
class Change:
    """One figure in both runs; ``ratio`` is new / old, ``limit`` what it may vary by."""

    row: Row
    ratio: float
    limit: float

    @property
    def is_regression(self) -> bool:
        return self.ratio - 1 > self.limit

    @property
    def is_gain(self) -> bool:
        return 1 / self.ratio - 1 > self.limit

    def __str__(self) -> str:
        key = ": ".join(x for x in self.row.key[:3])
        return f"{key}: {self.ratio - 1:+.0%}, to {self.row.p50:.4g} {self.row.unit} (noise {self.limit:.0%})"


def why_not(old: Results, new: Results) -> str | None:
    """Why two runs cannot be compared, or None if they can."""
    if old.quick or new.quick:
        return "a quick run was made for its checks; its times mean nothing"
    for name in _SAME:
        if old.machine.get(name) != new.machine.get(name):
            return f"they ran on different machines: {name} is {old.machine.get(name)} and {new.machine.get(name)}"
    return None


def changes(old: Results, new: Results) -> Iterator[Change]:
    """Every figure that both runs have, larger being worse."""
    known = {row.key: row for row in old.rows}
    speeds = [float(np.median(run.anchors)) for run in (old, new) if run.anchors]
    apart = max(speeds) / min(speeds) - 1 if len(speeds) == 2 else 0.0
    common = max(old.drift, new.drift) + apart + BETWEEN_PROCESSES
    for row in new.rows:
        before = known.get(row.key)
        if before is not None and row.unit in _WORSE_IF_LARGER and before.p50 > 0:
            yield Change(row, row.p50 / before.p50, max(before.noise, row.noise) + common)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args(arguments)
    try:
        old, new = read(options.old), read(options.new)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    problem = why_not(old, new)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    found = sorted(changes(old, new), key=lambda change: -change.ratio)
    worse, better = ([x for x in found if x.is_regression], [x for x in found if x.is_gain])
    print(f"{len(found)} figures in both; commit {old.machine['commit']} -> {new.machine['commit']}")
    for title, listed in (("SLOWER OR LARGER", worse), ("faster or smaller", better[::-1])):
        print(f"{title}: {len(listed)}")
        print("".join(f"  {change}\n" for change in listed), end="")
    refused = [name for name in new.refused if name not in old.refused]
    print("".join(f"NOW WRONG: {name}: {new.refused[name]}\n" for name in refused), end="")
    missing = sorted({row.key for row in old.rows} - {row.key for row in new.rows})
    print(f"no longer measured: {len(missing)}")
    print("".join(f"  {': '.join(key[:3])}\n" for key in missing), end="")
    return 1 if worse or refused else 0


if __name__ == "__main__":
    sys.exit(main())
