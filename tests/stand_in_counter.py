"""A counter for tests of the command line, which counts bytes, and the command line with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.cli import main
from engine.errors import ImageError


@dataclass
class StandInResult:
    count: int
    interval: tuple[int, int]
    warnings: tuple[str, ...] = ()
    image_size: tuple[int, int] = (64, 48)
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    uncertainty: np.ndarray = field(default_factory=lambda: np.zeros((3, 4), np.float32))

    @property
    def density(self):
        return np.full((2, 3), self.count / 6, np.float32)

    def to_dict(self):
        empty = {"points": [], "scores": [], "zones": {}, "zone_intervals": {}, "lines": {}, "timings": {}}
        sizes = {"interval": list(self.interval), "image_size": list(self.image_size)}
        return {"count": self.count, **sizes, "warnings": list(self.warnings), **empty}

    def save(self, path):
        if Path(path).suffix == ".npy":
            np.save(path, self.density)
        else:
            Path(path).write_text(f"overlay of {self.count}")


class StandInCounter:
    """Counts the bytes of a file; a file that starts with "bad" is no picture."""

    last: StandInCounter

    def __init__(self, **options):
        self.options, self.closed = options, False
        StandInCounter.last = self

    @property
    def settings(self):
        return {**self.options, "model": "bytes"}

    def count(self, img, *, steps=None):
        if not isinstance(img, bytes) and not Path(img).exists():
            raise ImageError(f"'{img}' does not exist")
        data = img if isinstance(img, bytes) else Path(img).read_bytes()
        if data.startswith(b"bad"):
            raise ImageError("not a picture")
        if data.startswith(b"stop"):
            raise KeyboardInterrupt
        warnings = ("it is dark",) if data.startswith(b"dark") else ()
        return StandInResult(len(data), (len(data) - 1, len(data) + 2), warnings)

    def close(self):
        self.closed = True


def crowd(*arguments) -> int:
    return main([str(a) for a in arguments], counter_factory=StandInCounter)
