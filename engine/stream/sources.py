"""Where frames come from: recordings and pictures, every one of which is delivered in its turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

from engine.config import PICTURE_SUFFIXES
from engine.errors import ImageError, SourceError
from engine.image.folders import is_picture, natural_key
from engine.image.load import load_image
from engine.stream.frame import Frame
from engine.stream.video import VideoInput

# Seconds: frames that are out of order are nearer to those before them.
_SET_BACK = 1.0
# Pictures a second of a folder or of an iterable, if nobody says.
_PICTURE_RATE = 1.0


class Source(Protocol):
    """Something that frames come from."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def is_live(self) -> bool:
        """It does not wait: a frame that nobody takes is soon out of date."""

    @property
    def timeout(self) -> float | None:
        """Seconds after which a frame is overdue; None if it may take its time."""

    def frames(self) -> Generator[Frame, None, None]:
        """The frames; called once, in the thread that reads."""

    def close(self) -> None:
        """Called from another thread: :meth:`frames` shall end soon."""


class Snapshot(Protocol):
    """Copies the picture of an item, as the maker of the items may reuse their memory."""

    def __call__(self, img: Any, /, *, color: str, warn: Callable[[str], None]) -> Any:
        """Called in the thread that reads, before it asks for the next item; see :meth:`Backend.snapshot`."""


class Pacer:
    """Chooses frames so that there are about ``fps`` a second; all of them for None."""

    def __init__(self, fps: float | None):
        self._period = 1 / fps if fps else 0.0
        self._taken = 0

    def wants(self, timestamp: float) -> bool:
        """Whether to take the frame of this time, in seconds since the first."""
        # Times are rounded to the container's clock: a frame that is a little early is in time.
        if timestamp < self._taken * self._period - 1e-3:
            return False
        # After a gap the beat goes on, instead of catching up.
        self._taken = max(self._taken + 1, int(timestamp / self._period + 1e-3) + 1) if self._period else 0
        return True


class VideoSource:
    """A recording: a video file, or one on a server.

    Args:
        video: open; closed at the end.
        fps: frames a second to deliver; None for all.
    """

    is_live = False
    timeout = None

    def __init__(self, name: str, video: VideoInput, fps: float | None):
        self.name = name
        self._video, self._pacer = video, Pacer(fps)
        self._is_closed = False

    def frames(self) -> Generator[Frame, None, None]:
        """The frames that are due, with the warnings of those in between."""
        clock = MediaClock(self._video.rate)
        warnings: tuple[str, ...] = ()
        try:
            for index, picture in enumerate(self._video.pictures()):
                if self._is_closed:
                    return
                timestamp = clock(picture.time)
                warnings += picture.warnings
                if clock.set_back:
                    warnings += (f"the video's clock goes back by {clock.set_back:.1f} s here; times go on regardless",)
                if self._pacer.wants(timestamp):
                    yield Frame(index, timestamp, picture.pixels(), warnings=warnings, file=self.name)
                    warnings = ()
        finally:
            self._video.close()

    def close(self) -> None:
        """Stop before the next frame; the thread that reads closes the file."""
        self._is_closed = True


class MediaClock:
    """Seconds since the first frame, which never run backwards.

    Args:
        rate: frames a second, for containers that tell no times.

    Attributes:
        set_back: seconds that the container's time has just gone back by, if it begins anew, as in joined recordings:
            the times go on from there. Else 0, also where a frame is but a little out of order.
    """

    def __init__(self, rate: float | None):
        self._period = 1 / rate if rate else 1 / 25
        self._first: float | None = None
        self._last = -self._period
        self.set_back = 0.0

    def __call__(self, time: float | None) -> float:
        """Seconds of the next frame, which the container says is of ``time``."""
        self.set_back = 0.0
        if time is None:
            self._last += self._period
            return self._last
        if self._first is None:
            self._first = time
        if (back := self._last - (time - self._first)) > _SET_BACK:
            self.set_back, self._first = back, time - self._last - self._period
        self._last = max(time - self._first, self._last, 0.0)
        return self._last


class PictureSource:
    """Pictures one by one: of a folder, or of any iterable.

    Args:
        pictures: each anything that ``count`` takes.
        color: channel order of the arrays among them.
        rate: pictures a second, for their times.
        skips_damaged: leave out what cannot be read, with a warning. Otherwise that is an error.
        snapshot: makes each a picture of its own.
    """

    is_live = False
    timeout = None

    def __init__(
        self,
        name: str,
        pictures: Iterable[Any],
        color: str,
        rate: float | None,
        skips_damaged: bool,
        snapshot: Snapshot = load_image,
    ):
        self.name, self._snapshot = name, snapshot
        self._pictures, self._color, self._skips_damaged = pictures, color, skips_damaged
        self._period = 1 / (rate or _PICTURE_RATE)
        self._is_closed = False

    def frames(self) -> Generator[Frame, None, None]:
        """The pictures, decoded here, so that the counting thread need not."""
        warnings: list[str] = []
        found = False
        for index, picture in enumerate(self._pictures):
            if self._is_closed:
                return
            try:
                image = self._snapshot(picture, color=self._color, warn=warnings.append)
            except ImageError as error:
                if not self._skips_damaged:
                    raise
                warnings.append(f"left out: {error}")
                continue
            file = picture if isinstance(picture, str) else None
            yield Frame(index, index * self._period, image, warnings=tuple(warnings), file=file)
            warnings, found = [], True
        if warnings:
            raise SourceError(f"{self.name}: {'; '.join(warnings)}" + ("" if found else "; no picture is left"))

    def close(self) -> None:
        """Stop before the next picture."""
        self._is_closed = True


def find_folder(path: str | os.PathLike[str]) -> list[str]:
    """The pictures in a folder, in the natural order of their names.

    Raises:
        SourceError: there are none.
    """
    found = [str(p) for p in Path(path).iterdir() if is_picture(p.name) and p.is_file()]
    found.sort(key=natural_key)
    if not found:
        raise SourceError(
            f"no pictures in folder {os.fspath(path)}; expected files ending in {', '.join(sorted(PICTURE_SUFFIXES))}"
        )
    return found
