"""Changes one argument of one driver call in the engine's code at a time, and says which changes nothing notices.

``python mutations.py TESTS`` prints JSON: how many changes there were, by call, and what survived. Each runs in a
process of its own: one that ends it was noticed too.
"""

from __future__ import annotations

import enum
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

sys.path.insert(0, sys.argv[1])

from backends.cuda.everything import fake_driver, read_a_picture, use_everything

from engine.backends.cuda import driver as module

# Enough for any of them: a wait without end was noticed.
_SECONDS = 20
# Which of the two streams, that which computes and that which uploads, run as soon as they may.
_ORDERS = ((False, False), (True, False), (False, True))


@dataclass(frozen=True)
class Mutation:
    """Argument ``place`` of the calls at ``site`` becomes the ``change``-th of what it could be by mistake."""

    site: tuple[str, str, int]
    place: int
    change: int


class Mutator:
    """Stands before ``Driver.call``.

    Args:
        live: what the device holds, by handle.
        mutation: what to change; None changes nothing.

    Attributes:
        sites: where calls come from, by name, file and line; for each argument, the most that it could be by mistake.
    """

    def __init__(self, live: dict[int, str], mutation: Mutation | None = None):
        self._live, self._mutation = live, mutation
        self._call = module.Driver.call
        self.sites: dict[tuple[str, str, int], list[int]] = {}

    def __enter__(self) -> Mutator:
        mutator = self

        def call(driver: Any, name: str, *arguments: Any, asked: int | None = None) -> Any:
            return mutator._call(driver, name, *mutator._mutated(name, arguments), asked=asked)

        module.Driver.call = call  # type: ignore[method-assign]
        return self

    def _mutated(self, name: str, arguments: tuple[Any, ...]) -> list[Any]:
        frame = sys._getframe(1)
        while frame.f_code.co_name == "call" and frame.f_back is not None:
            frame = frame.f_back
        site = name, frame.f_code.co_filename, frame.f_lineno
        changes = [self.changes(x) for x in arguments]
        counts = self.sites.setdefault(site, [0] * len(arguments))
        self.sites[site] = [max(pair) for pair in zip(counts, map(len, changes), strict=True)]
        changed = list(arguments)
        mutation = self._mutation
        if mutation is not None and mutation.site == site and mutation.change < len(changes[mutation.place]):
            changed[mutation.place] = changes[mutation.place][mutation.change]
        return changed

    def __exit__(self, *_: object) -> None:
        module.Driver.call = self._call  # type: ignore[method-assign]

    def changes(self, value: Any) -> list[Any]:
        """What else an argument could be by mistake."""
        if isinstance(value, enum.IntEnum):
            return [x for x in type(value) if x != value][:2]
        if isinstance(value, bytes):
            return [b"?" + value[1:]]
        if isinstance(value, int):
            # Another of the same kind: the last that was made.
            others = [x for x, kind in self._live.items() if kind == self._live.get(value) and x != value][-1:]
            return [value + 1, *([0] if value else []), *others]
        kind = type(value)
        if kind.__name__ == "cuuint64_t":
            return [kind(0)]
        if kind.__name__ == "CUmemPoolProps":
            return [kind()]
        raise TypeError(f"an argument of type {kind}")


def main() -> None:
    expected = [_run(eager, None) for eager in _ORDERS]
    made, survived = Counter[str](), Counter[str]()
    for site, counts in _sites().items():
        for place, count in enumerate(counts):
            for change in range(count):
                made[site[0]] += 1
                if not _is_noticed(expected, Mutation(site, place, change)):
                    survived[f"{site[0]} {place} {change}"] += 1
    print(json.dumps({"made": made, "survived": survived}))


def _sites() -> dict[tuple[str, str, int], list[int]]:
    driver = fake_driver()
    with Mutator(driver.live) as mutator:
        use_everything(driver)
        read_a_picture(driver)
    return mutator.sites


def _is_noticed(expected: list[Any], mutation: Mutation) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        runs = zip(_ORDERS, expected, strict=True)
        os._exit(0 if all(_run(eager, mutation) == right for eager, right in runs) else 1)
    return os.waitpid(child, 0)[1] != 0


def _run(eager: tuple[bool, ...], mutation: Mutation | None) -> list[Any]:
    driver = fake_driver(eager=eager)
    with Mutator(driver.live, mutation):
        found = [use_everything(driver), read_a_picture(driver)]
    driver.assert_clean()
    return found


if __name__ == "__main__":
    main()
