"""How far two runs of one network, exact and rounded, agree on the people in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Pixels that a head may move, as in the stricter of the usual two F1.
_RADIUS = 4.0


def disagreement(exact: Sequence[np.ndarray], rounded: Sequence[np.ndarray]) -> float:
    """Share of the people in whom two runs differ: by the counts or by the places, whichever is more.

    By the counts it is the sum of their differences over the sum of the exact counts. By the places it is one minus F1:
    a head is found again where two points are each other's nearest and at most 4 pixels apart. Counts alone would not
    tell of a decoder that has been damaged, as they are the encoder's.

    Args:
        exact, rounded: points of each picture, [N, 2] as (x, y) in pixels; ``exact`` has at least one.

    >>> points = np.array([[10.0, 10.0], [50.0, 20.0]])
    >>> disagreement([points], [points + [3, 0]])
    0.0
    >>> disagreement([points], [points + [[0, 0], [5, 0]]])
    0.5
    """
    people, others = sum(map(len, exact)), sum(map(len, rounded))
    counts = sum(abs(len(a) - len(b)) for a, b in zip(exact, rounded, strict=True)) / people
    again = sum(map(_found_again, exact, rounded))
    return max(counts, 1 - 2 * again / (people + others))


def _found_again(a: np.ndarray, b: np.ndarray) -> int:
    if not len(a) or not len(b):
        return 0
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)  # [N, M]
    nearest = distance.argmin(axis=1)
    is_mutual = distance.argmin(axis=0)[nearest] == np.arange(len(a))
    return int((is_mutual & (distance.min(axis=1) <= _RADIUS)).sum())
