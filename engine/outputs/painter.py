"""Frames of a stream with their results drawn on them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from engine.drawing.overlay import count_texts, crowding, draw_overlay, heat_of_heads
from engine.drawing.zones import line_marks, zone_marks
from engine.errors import ConfigError
from engine.stream.frame import FrameResult

# The heat of a frame is drawn against the most crowded place of late, which fades by this factor a frame: against its
# own, the colours would flicker.
_FADE = 0.95


class FramePainter:
    """Draws frame after frame of one stream."""

    def __init__(self) -> None:
        self._hottest = 0.0

    def draw(self, frame: FrameResult, fps: float | None = None, alerts: Collection[str] = ()) -> np.ndarray:
        """The picture of a frame with what was counted, the time and the rate.

        Args:
            fps: frames a second, to be written on it.
            alerts: zones whose alert is on.

        Returns:
            uint8 [H, W, 3] RGB.

        Raises:
            ConfigError: the frame was counted without its picture (on a GPU).
        """
        if frame.image is None:
            raise ConfigError(f"frame {frame.index} was counted without its picture, so nothing can be drawn on it")
        result = frame.result
        size = (frame.image.shape[1], frame.image.shape[0])
        drawn = draw_overlay(
            frame.image,
            heat=self._heat(result.heatmap),
            points=result.points,
            banner=count_texts(result.count, result.interval),
            zones=zone_marks(result._layout, size, result.zones, alerts),
            lines=line_marks(result._layout, size, result.lines),
            note=note_texts(frame.timestamp, fps, frame.dropped),
        )
        return np.asarray(drawn)

    def _heat(self, heatmap: np.ndarray) -> np.ndarray:
        crowded = crowding(heatmap)
        self._hottest = max(float(crowded.max()), _FADE * self._hottest)
        return heat_of_heads(crowded, self._hottest)


def note_texts(timestamp: float, fps: float | None, dropped: int) -> tuple[str, ...]:
    """Time, rate and frames left out, from long to short.

    >>> note_texts(75.25, 8.33, 2)
    ('1:15.2 · 8.3 fps · 2 dropped', '1:15.2 · 8.3 fps', '1:15.2')
    """
    tenths = int(timestamp * 10 + 1e-6)
    minutes, seconds = divmod(tenths // 10, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    parts = [f"{clock}:{seconds:02}.{tenths % 10}"]
    if fps is not None:
        parts.append(f"{fps:.1f} fps")
    if dropped:
        parts.append(f"{dropped} dropped")
    return tuple(" · ".join(parts[:count]) for count in range(len(parts), 0, -1))
