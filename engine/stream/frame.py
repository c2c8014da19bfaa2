"""A picture of a stream, and what was counted in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.result import CountResult


@dataclass(frozen=True)
class Frame:
    """One picture on its way from a source to the counter, with what :class:`FrameResult` will have of it.

    Attributes:
        image: a picture of its own, RGB, as :meth:`engine.backends.base.Backend.load` takes it.
        dropped: pictures of a live source that a newer one replaced since the frame before.
    """

    index: int
    timestamp: float
    image: Any = field(repr=False)
    dropped: int = 0
    warnings: tuple[str, ...] = ()
    file: str | None = None
    time: str | None = None
    lost_at: float | None = None

    def counted(self, result: CountResult, warm: bool = False) -> FrameResult:
        """The frame with what was counted in it."""
        return FrameResult(
            self.index,
            self.timestamp,
            self.dropped,
            result,
            warm=warm,
            warnings=self.warnings,
            file=self.file,
            time=self.time,
            lost_at=self.lost_at,
        )


@dataclass(frozen=True, eq=False)
class FrameResult:
    """The people in one frame of a stream.

    Attributes:
        index: of the frame in its source, from 0; dropped and skipped ones have numbers too.
        timestamp: seconds since the first frame of the source.
        dropped: frames of a live source that were left out since the result before, because counting took longer.
        result: what was counted in it.
        warm: the denoising started from the map of the frame before.
        warnings: what went wrong in the source since the frame before; those of the count are in ``result``.
        file: the picture's own file in a folder; of a video its file, of a camera or address its name without user
            and password; None of an iterable.
        time: of a live source, when the frame came: ISO 8601, in UTC; else None.
        lost_at: where a live source was lost since the frame before, the time of its last picture until then, as
            ``timestamp``; else None.
    """

    index: int
    timestamp: float
    dropped: int
    result: CountResult
    warm: bool = False
    warnings: tuple[str, ...] = ()
    file: str | None = None
    time: str | None = None
    lost_at: float | None = None

    @property
    def image(self) -> np.ndarray | None:
        """The frame as it was counted: uint8 [H, W, 3] RGB, read-only; None if it lies on a GPU."""
        return self.result._image

    def to_dict(self) -> dict[str, Any]:
        """Everything but picture and maps, as JSON has it: that of the result, with what is the frame's in front."""
        counted = self.result.to_dict()
        return {
            "file": self.file,
            "index": self.index,
            "timestamp": self.timestamp,
            "time": self.time,
            "dropped": self.dropped,
            "warm": self.warm,
            **counted,
            "warnings": [*self.warnings, *counted["warnings"]],
        }

    def __str__(self) -> str:
        return f"{self.timestamp:.2f} s: {self.result}"
