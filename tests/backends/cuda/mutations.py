"""Changes one argument of one driver call at a time, and says which changes nothing notices.

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
from typing import Any

sys.path.insert(0, sys.argv[1])

from backends.cuda.everything import fake_driver, read_a_picture, use_everything

from engine.backends.cuda import driver as module

# Enough for any of them: what waits for ever was noticed.
_SECONDS = 20
# Of one function that are changed, each in all of its arguments.
_OCCURRENCES = 6
# Which of the two streams, that which computes and that which uploads, run as soon as they may.
_ORDERS = ((False, False), (True, False), (False, True))


class Mutator:
    """Stands before ``Driver.call``, and changes argument ``place`` of call ``number`` by change ``change``."""

    def __init__(self, live: dict[int, str], number: int = -1, place: int = 0, change: int = 0):
        self._live, self._number, self._place, self._change = live, number, place, change
        self._call = module.Driver.call
        self.calls: list[tuple[str, list[int]]] = []

    def __enter__(self) -> Mutator:
        mutator = self

        def call(driver: Any, name: str, *arguments: Any, asked: int | None = None) -> Any:
            if len(mutator.calls) == mutator._number:
                changed = list(arguments)
                changed[mutator._place] = mutator.changes(arguments[mutator._place])[mutator._change]
                arguments = tuple(changed)
            mutator.calls.append((name, [len(mutator.changes(x)) for x in arguments]))
            return mutator._call(driver, name, *arguments, asked=asked)

        module.Driver.call = call  # type: ignore[method-assign]
        return self

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
    expected, calls = [_run(eager) for eager in _ORDERS], _calls()
    made, survived = Counter[str](), Counter[str]()
    for number in _chosen([name for name, _ in calls]):
        name, changes = calls[number]
        for place, count in enumerate(changes):
            for change in range(count):
                made[name] += 1
                if not _is_noticed(expected, number, place, change):
                    survived[f"{name} {place} {change}"] += 1
    print(json.dumps({"made": made, "survived": survived}))


def _chosen(names: list[str]) -> list[int]:
    """Numbers of some calls of each function, from the first to the last."""
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, []).append(number)
    spread = (x[:: max(1, len(x) // _OCCURRENCES)] + x[-1:] for x in numbers.values())
    return sorted({number for some in spread for number in some})


def _calls() -> list[tuple[str, list[int]]]:
    driver = fake_driver()
    with Mutator(driver.live) as recorded:
        use_everything(driver)
        read_a_picture(driver)
    return recorded.calls


def _is_noticed(expected: list[Any], *mutation: int) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        runs = zip(_ORDERS, expected, strict=True)
        os._exit(0 if all(_run(eager, *mutation) == right for eager, right in runs) else 1)
    return os.waitpid(child, 0)[1] != 0


def _run(eager: tuple[bool, ...], *mutation: int) -> list[Any]:
    driver = fake_driver(eager=eager)
    with Mutator(driver.live, *mutation):
        found = [use_everything(driver), read_a_picture(driver)]
    driver.assert_clean()
    return found


if __name__ == "__main__":
    main()
