"""Videos, cameras and network streams through PyAV: the pictures of their best video track, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from engine.config import ImageLimits
from engine.errors import ImageError, SourceError
from engine.stream.target import Target
from engine.stream.tracks import best_track, shown_pixels, shown_size
from engine.system.addresses import hide_passwords

# A video that ends by more than so many seconds, and by more than this share, before it should is an error.
_EARLY, _EARLY_SHARE = 1.0, 0.05
# Seconds until a camera that has no picture yet is asked again.
_POLL = 0.005


@dataclass(frozen=True)
class Picture:
    """One decoded picture.

    Attributes:
        time: presentation time in seconds, on the container's clock; None if it tells none.
        pixels: makes uint8 [H, W, 3] RGB, upright; costs time, so that skipped pictures are never converted.
        warnings: what was damaged since the picture before.
    """

    time: float | None
    pixels: Callable[[], np.ndarray]
    warnings: tuple[str, ...]


class VideoInput:
    """An open video; used by one thread at a time.

    Args:
        target: what to open.
        timeout: seconds that opening it, and each read, may take.
        limits: of the pictures' size.

    Attributes:
        duration: seconds, None where there is no end or none is known.
        rate: pictures a second, as the container has it; None if it does not say.
        is_picture: it is a single picture, as a server may give.

    Raises:
        SourceError: PyAV is not installed; it cannot be opened; it has no video track; it is too large.
    """

    def __init__(self, target: Target, timeout: float, limits: ImageLimits):
        self._av = load_av()
        self._target, self._limits = target, limits
        # Decoders refuse much larger pictures before they make room for them; they count their padding too.
        self._most_pixels = 2 * limits.max_pixels + (1 << 16)
        self._container: Any = self._open(timeout)
        duration = self._container.duration
        self.duration = None if not duration or duration < 0 else duration / self._av.time_base
        self._timeout = timeout
        try:
            self._track = self._open_track()
        except BaseException:
            self._container.close()
            raise
        # So FFmpeg calls its readers of single pictures, jpeg_pipe for example; AVIF has the one of MP4.
        format_name = self._container.format.name
        is_lasting = self.duration is not None or self._track.frames != 1
        self.is_picture = format_name.endswith("_pipe") or format_name == "image2" or not is_lasting
        rate = self._track.average_rate
        self.rate = float(rate) if rate else None
        self._end = self._find_end()

    def pictures(self, check: Callable[[], None] = lambda: None) -> Iterator[Picture]:
        """The pictures from here on; damaged parts are left out, and the next picture tells of them.

        Args:
            check: called before each packet, also before those of other tracks and the damaged ones, which give no
                picture. What it raises ends the reading and comes through.

        Raises:
            SourceError: a picture is too large, nothing could be decoded, or the end is damaged.
        """
        damaged = found = 0
        reason, last, end, longest = "", None, 0.0, 0.0
        for decoded in self._decode(check):
            if isinstance(decoded, Exception):
                damaged, reason = damaged + 1, _reason(decoded, self._target)
                continue
            found += 1
            if decoded.time is not None:
                # The last picture is shown for as long as its container says, or else for as long as any before it.
                shown = float((decoded.duration or 0) * decoded.time_base)
                longest = max(longest, decoded.time - last if last is not None else 0.0)
                last, end = decoded.time, decoded.time + (shown or longest)
            yield Picture(decoded.time, self._pixels(decoded), _warnings(damaged, reason, decoded.is_corrupt))
            damaged = 0
        if not found:
            problem = reason or "it is empty"
            if not self._track.codec_context.width:
                # No size is known either where a decoder refused the first picture while it found out what it is.
                problem += f", or its pictures have more than {self._limits.max_pixels} pixels"
            raise SourceError(f"{self._target.name} has no picture to decode ({problem}); {self._target.advice}")
        if damaged:
            raise SourceError(
                f"{self._target.name} is damaged after its picture {found} ({reason}); what came before was delivered"
            )
        if last is not None and self._end is not None and self._end - end > max(_EARLY, _EARLY_SHARE * self._end):
            raise SourceError(
                f"{self._target.name} ends early, at {end:.1f} of {self._end:.1f} s: it is cut short or damaged; what "
                "came before was delivered"
            )

    def close(self) -> None:
        """Free it. Closing twice is harmless."""
        self._container.close()

    def _open(self, timeout: float) -> Any:
        target = self._target
        # Metadata may have bytes that are no text. PyAV 19 and later always take them, and have no such argument.
        of_metadata = {"metadata_errors": "replace"} if int(self._av.__version__.partition(".")[0]) < 19 else {}
        try:
            return self._av.open(
                target.address,
                format=target.format,
                # The same holds for the decoders that find out what a track is, by its first picture.
                options={"max_pixels": str(self._most_pixels)},
                container_options=target.options,
                timeout=timeout,
                **of_metadata,
            )
        except (self._av.error.FFmpegError, OSError, ValueError) as error:
            problem = _reason(error, target)
        # Outside of the handler, and from nothing: FFmpeg's error holds the whole address.
        raise SourceError(f"{target.name} cannot be opened ({problem}); {target.advice}")

    def _open_track(self) -> Any:
        if not self._container.streams.video:
            raise SourceError(f"{self._target.name} has no video track; expected a video")
        track = best_track(self._container.streams.video)
        context = track.codec_context
        if context is None:
            raise SourceError(f"{self._target.name} is in a format that this build of PyAV cannot decode; convert it")
        self._check_size(*shown_size(context.width, context.height, track.sample_aspect_ratio))
        context.options = {"max_pixels": str(self._most_pixels)}
        # Threads that share out whole pictures give each of them as many pictures late as there are threads.
        track.thread_type = "SLICE" if self.duration is None else "AUTO"
        return track

    def _find_end(self) -> float | None:
        """When the last picture ends, on the container's clock; None where nothing tells."""
        track = self._track
        if track.duration is not None and track.time_base is not None:
            return float((track.duration + (track.start_time or 0)) * track.time_base)
        # Sound may be longer than the pictures.
        if self.duration is not None and len(self._container.streams) == 1:
            # Where a clock starts late, some writers (Matroska's) take the last time for the duration.
            return self.duration + min(self._container.start_time or 0, 0) / self._av.time_base
        return None

    def _decode(self, check: Callable[[], None]) -> Iterator[Any]:
        """Decoded frames, and the errors in between."""
        error_types = (self._av.error.FFmpegError, OSError, ValueError)
        # The packets of all tracks: PyAV would look for the next packet of one for as long as others come.
        packets, polls = self._container.demux(), 0
        while True:
            check()
            late = False
            try:
                packet = next(packets, None)
                polls = 0
            except BlockingIOError:
                # So cameras of Apple's say that the next picture is not there yet, and PyAV's reading is over then.
                polls += 1
                late = polls * _POLL > self._timeout
                if not late:
                    time.sleep(_POLL)
                    packets = self._container.demux()
                    continue
            except error_types as error:
                late = isinstance(error, (self._av.error.ExitError, TimeoutError))
                if not late:
                    # Beyond an error of the container there is nothing to hold on to.
                    yield error
                    return
            if late:
                # Outside of the handlers: FFmpeg's error holds the whole address.
                raise SourceError(f"{self._target.name} gave no picture in time")
            if packet is None:
                return
            # Its own index is 0 for the last, empty packet of each track, which brings out the pictures that wait.
            if packet.stream.index != self._track.index:
                continue
            try:
                frames = packet.decode()
            except error_types as error:
                yield error
                continue
            yield from frames

    def _pixels(self, frame: Any) -> Callable[[], np.ndarray]:
        return lambda: shown_pixels(frame, self._track.sample_aspect_ratio, self._check_size)

    def _check_size(self, width: int, height: int) -> None:
        # A track that tells no size yet is checked when its pictures come.
        if width or height:
            try:
                self._limits.check(width, height, self._target.name)
            except ImageError as error:
                raise SourceError(str(error)) from error


def load_av() -> ModuleType:
    """PyAV.

    Raises:
        SourceError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise SourceError("videos and cameras need PyAV; install it: pip install 'crowd-engine[video]'") from error
    module: ModuleType = av
    return module


def _warnings(damaged: int, reason: str, is_corrupt: bool) -> tuple[str, ...]:
    lost = (f"{damaged} damaged {'part' if damaged == 1 else 'parts'} before this frame left out ({reason})",)
    return (lost if damaged else ()) + (("this frame is damaged",) if is_corrupt else ())


def _reason(error: BaseException, target: Target) -> str:
    # How FFmpeg calls it when PyAV interrupts it.
    if type(error).__name__ == "ExitError":
        return "no answer in time"
    text = str(getattr(error, "strerror", None) or error)
    return hide_passwords(text, [target.address]).partition("\n")[0]
