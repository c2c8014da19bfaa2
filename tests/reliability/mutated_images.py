"""Damaged pictures through the loader: ``python -m reliability.mutated_images`` from the folder ``tests``.

Each must come out as a valid array or as an ImageError. Picture number N is always the same, so what was found
can be looked at again: ``--first N --count 1 --show``. The last line is a summary in JSON.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from reliability.mutations import mutate, sound_files

from engine.config import ImageLimits
from engine.errors import ImageError
from engine.image.load import load_image


class Tally:
    """What came of the pictures so far."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.problems: list[str] = []
        self.slowest = (0.0, 0)

    def add(self, number: int, name: str, problem: str | None, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1
        if outcome == "loaded":
            self.formats[name.partition(".")[0]] += 1
        if problem is not None:
            self.problems.append(f"picture {number} ({name}): {problem}")
        self.slowest = max(self.slowest, (seconds, number))


def picture(number: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Damaged picture number ``number``: the sound file that it was, and its bytes."""
    names = list(files)
    name = names[number % len(names)]
    rng = np.random.default_rng(number)
    return name, mutate(files[name], rng, files[names[int(rng.integers(0, len(names)))]])


def try_one(data: bytes, limits: ImageLimits) -> tuple[str, str | None]:
    """What came of it, and what is wrong with that."""
    try:
        loaded = load_image(data, limits=limits)
    except ImageError as error:
        # Running out of memory is an explosion, even when it is reported with the right type.
        return "refused", "out of memory" if isinstance(error.__cause__, MemoryError) else None
    except BaseException as error:
        return "raised", f"{type(error).__name__}: {error}"
    valid = loaded.dtype == np.uint8 and loaded.ndim == 3 and loaded.shape[2] == 3 and loaded.flags.c_contiguous
    return "loaded", None if valid and loaded.size > 0 else f"an array {loaded.dtype} {loaded.shape}"


def storm(first: int, count: int, limits: ImageLimits, marker: Path | None) -> dict[str, Any]:
    """Try ``count`` pictures; ``marker`` is a file that always holds the number in hand, for when the process dies."""
    files, tally = sound_files(), Tally()
    sound = [name for name, data in files.items() if try_one(data, limits)[0] != "loaded"]
    assert not sound, f"not even sound: {sound}"
    for number in range(first, first + count):
        name, data = picture(number, files)
        if marker is not None:
            marker.write_text(str(number))
        # Time of the processor: a busy machine is not a slow picture.
        start = time.process_time()
        outcome, problem = try_one(data, limits)
        tally.add(number, name, problem, outcome, time.process_time() - start)
    return {
        "pictures": count,
        **tally.outcomes,
        "loaded_formats": tally.formats,
        "problems": tally.problems,
        "slowest_cpu_ms": round(tally.slowest[0] * 1000, 1),
        "slowest_picture": tally.slowest[1],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--marker", type=Path, help="file that holds the number of the picture in hand")
    parser.add_argument("--show", action="store_true", help="write the pictures to the current folder instead")
    options = parser.parse_args()
    if options.show:
        for number in range(options.first, options.first + options.count):
            name, data = picture(number, sound_files())
            Path(f"{number}.{name.partition('.')[0]}").write_bytes(data)
        return 0
    faulthandler.enable()
    # Pillow warns of what it mends.
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    report = storm(options.first, options.count, ImageLimits(), options.marker)
    print(json.dumps({**report, "seconds": round(time.perf_counter() - start, 1)}))
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
