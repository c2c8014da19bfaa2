"""A few values by key, of which those not used for longest are forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class RecentlyUsed(dict[K, V]):
    """The values that were used last, in that order.

    Args:
        capacity: values that are kept.

    >>> squares = RecentlyUsed(2)
    >>> [squares.find(x, lambda: x * x) for x in (1, 2, 1, 3)]
    [1, 4, 1, 9]
    >>> list(squares)
    [1, 3]
    """

    def __init__(self, capacity: int):
        super().__init__()
        self._capacity = capacity

    def find(self, key: K, make: Callable[[], V]) -> V:
        """The value of ``key``, which is made where there is none; threads must take turns."""
        value = self.pop(key) if key in self else make()
        self[key] = value
        while len(self) > self._capacity:
            del self[next(iter(self))]
        return value
