"""Times several ways of doing one thing in turn, so that all of them share the machine's moods."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

# Does its work that many times and says how many milliseconds all of it took.
Stint = Callable[[int], float]

# Shorter stints are repeated until they last this long, in ms: a clock and a call cost about 1e-4 ms.
_SHORTEST = 10.0
# Calls up to this long, in ms, are first run as often untimed at each turn: others have used the caches since, and
# threads that slept take some milliseconds to come up to speed.
_LONGEST_LEAD = 50.0
# Seconds between turns, in which the threads of the one before stop spinning.
_PAUSE = 0.002


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one way, one sample for each of its turns, in order."""

    samples: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """Time that ``share`` per cent of the turns did not exceed.

        >>> Timing((1.0, 2.0, 9.0)).percentile(50)
        2.0
        """
        return float(np.percentile(self.samples, share))

    @property
    def noise(self) -> float:
        """How much the time varied by itself, as a share of its median: the larger of two measures.

        One is the range from the 20th to the 80th percentile, the other the range of the medians of the first,
        second and last third of the turns, which a machine that gets slower or faster moves apart.

        >>> Timing((1.0, 1.0, 1.0, 2.0, 2.0, 2.0)).noise
        0.6666666666666666
        """
        median = self.percentile(50)
        spread = self.percentile(80) - self.percentile(20)
        thirds = [np.median(part) for part in np.array_split(self.samples, 3) if len(part)]
        return float(max(spread, max(thirds) - min(thirds)) / median)


def wall(call: Callable[[], object]) -> Stint:
    """A stint of calls, timed by the clock of the host."""

    def stint(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            call()
        return 1e3 * (time.perf_counter() - start)

    return stint


def interleave(
    stints: Mapping[str, Stint],
    seconds: float,
    least: int = 5,
    most: int = 50,
    progress: Callable[[float], object] = lambda share: None,
    lengths: Mapping[str, float] | None = None,
    leads: Mapping[str, Stint] | None = None,
) -> dict[str, Timing]:
    """Time each of ``stints`` in every round, in an order that changes from round to round.

    Args:
        stints: by name; each has run before, so that nothing is built or allocated for the first time here.
        seconds: to spend, unless ``least`` rounds take longer or ``most`` are done before.
        least, most: rounds.
        progress: told after each round which share is done, from 0 to 1.
        lengths: milliseconds of one call, where they are known; they are measured otherwise.
        leads: what is run untimed before a short stint, where it is not the stint itself.
    """
    start = time.perf_counter()
    known, leads = lengths or {}, leads or {}
    lengths = {name: max(known.get(name) or min(stint(1), stint(1)), 1e-6) for name, stint in stints.items()}
    repeats = {name: max(1, math.ceil(_SHORTEST / length)) for name, length in lengths.items()}
    samples: dict[str, list[float]] = {name: [] for name in stints}
    order = random.Random(0)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(most):
            spent = (time.perf_counter() - start) / seconds
            progress(min(max(spent, number / most), 1.0))
            if spent >= 1 and number >= least:
                break
            for name in order.sample(list(stints), len(stints)):
                time.sleep(_PAUSE)
                if lengths[name] <= _LONGEST_LEAD:
                    leads.get(name, stints[name])(repeats[name])
                samples[name].append(stints[name](repeats[name]) / repeats[name])
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    progress(1.0)
    return {name: Timing(tuple(values)) for name, values in samples.items()}
