"""Pictures -> a video file, which appears whole or not at all. Needs PyAV (the extra "video")."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import ConfigError, EngineError
from engine.stream.video import load_av
from engine.system.files import WholeFile

# Not AVI: it has one duration for all frames.
FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
# The first that this build of FFmpeg has: H.264, then what every build has. With their options. Without B-frames:
# with frames of uneven length MP4 got the duration wrong.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "21", "bf": "0"}),
    ("libopenh264", {}),
    ("mpeg4", {"qscale": "3"}),
)
# Divides the usual rates, 30000/1001 too; MPEG-4 takes no finer one.
_TICKS = 60_000


class VideoWriter:
    """Writes pictures and their times as a video.

    Args:
        path: .mp4, .mov or .mkv. The file appears when the video is complete; until then it has another name
            beside it, and it is removed if anything goes wrong.
        fps: usual rate of the frames; lasts as long as the last frame is shown, and tells players what to expect.
            Each frame keeps its own time.

    Leaving the context with an exception discards the video; :meth:`close` completes it.

    Raises:
        SourceError: PyAV is not installed.
        ConfigError: another suffix, no such folder, or ``fps`` is not from 0.01 to 1000.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float = 25.0):
        self._av = load_av()
        self._path = Path(path)
        suffix = self._path.suffix.lower()
        if suffix not in FORMATS:
            raise ConfigError(f"cannot write a video to {self._path.name!r}; end it in {', '.join(FORMATS)}")
        if not self._path.parent.is_dir():
            raise ConfigError(f"cannot write {self._path}: the folder {self._path.parent} does not exist")
        if not 0.01 <= fps <= 1000:
            raise ConfigError(f"fps must be from 0.01 to 1000, got {fps!r}")
        self._fps = Fraction(fps).limit_denominator(1001)
        self._file = WholeFile(self._path)
        self._container: Any = None
        self._stream: Any = None
        self._size = (0, 0)
        self._first: float | None = None
        self._last_pts = -1
        self._pictures = 0
        self._closed = False

    def write(self, picture: np.ndarray, timestamp: float) -> None:
        """Add a picture.

        Args:
            picture: uint8 [H, W, 3] RGB. The first one sets the size of the video; others are scaled to fit into it,
                on black. An odd side gets one more row or column, a copy of the last.
            timestamp: seconds; the first is where the video begins. One that is not after the last is put one frame
                after it.

        Raises:
            ConfigError: the picture is of another shape or dtype.
            EngineError: the video is closed, PyAV has no encoder, or the encoder fails.
            OSError: the file cannot be written.
        """
        if self._closed:
            raise EngineError(f"the video {self._path} is closed")
        picture = self._fit(np.asarray(picture))
        frame = self._av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self._pts(timestamp), Fraction(1, _TICKS)
        self._encode(frame)
        self._pictures += 1

    def close(self) -> None:
        """Complete the video, which then has its name; without a picture there is no file. Closing twice is harmless.

        Raises:
            EngineError: the encoder fails.
            OSError: the file cannot be written.
        """
        if self._closed:
            return
        # Not by the container: a first picture that was interrupted has opened it, and there may be no file yet.
        if not self._pictures:
            self.discard()
            return
        try:
            self._encode(None)
            self._container.close()
            self._file.commit()
        except BaseException:
            self.discard()
            raise
        self._closed = True

    def discard(self) -> None:
        """Give the video up: nothing of it stays, and an older file of its name stays as it was."""
        self._closed = True
        try:
            if self._container is not None:
                self._container.close()
        except (OSError, self._av.FFmpegError):
            # Nobody needs the rest of it: the disk may be full, which is why it is given up.
            pass
        finally:
            self._file.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _fit(self, picture: np.ndarray) -> np.ndarray:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
            raise ConfigError(f"expected a picture uint8 [H, W, 3], got {picture.dtype} {picture.shape}")
        height, width = picture.shape[:2]
        if self._container is None:
            # Chrominance has half the resolution.
            self._size = (width + width % 2, height + height % 2)
            self._open()
        full_width, full_height = self._size
        if not (0 <= full_width - width <= 1 and 0 <= full_height - height <= 1):
            scale = min(full_width / width, full_height / height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
            black = np.zeros((full_height, full_width, 3), np.uint8)
            top, left = (full_height - height) // 2, (full_width - width) // 2
            black[top : top + height, left : left + width] = np.asarray(
                Image.fromarray(picture).resize((width, height))
            )
            return black
        padded = np.pad(picture, ((0, full_height - height), (0, full_width - width), (0, 0)), mode="edge")
        return np.ascontiguousarray(padded)

    def _open(self) -> None:
        av = self._av
        name, options = _find_encoder(av)
        # Fragments written so far could be played, but nothing but the whole is kept: the index goes to the front.
        container_options = {"movflags": "+faststart"} if self._path.suffix.lower() in (".mp4", ".mov") else {}
        self._container = av.open(
            str(self._file.part), "w", format=FORMATS[self._path.suffix.lower()], container_options=container_options
        )
        try:
            self._stream = self._container.add_stream(name, rate=self._fps, options=options)
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, _TICKS)
        except BaseException:
            self.discard()
            raise

    def _pts(self, timestamp: float) -> int:
        if self._first is None:
            self._first = timestamp
        step = max(1, round(_TICKS / self._fps))
        pts = round((timestamp - self._first) * _TICKS)
        self._last_pts = pts if pts > self._last_pts else self._last_pts + step
        return self._last_pts

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                if not packet.duration:
                    packet.duration = max(1, round(_TICKS / self._fps))
                self._container.mux(packet)
        except self._av.FFmpegError as error:
            self.discard()
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(self._path)) from error
            raise EngineError(f"cannot encode {self._path}: {error}") from error


def _find_encoder(av: Any) -> tuple[str, dict[str, str]]:
    for name, options in _ENCODERS:
        if name in av.codecs_available:
            try:
                av.codec.Codec(name, "w")
            except ValueError:
                # Known for reading alone.
                continue
            return name, options
    names = ", ".join(name for name, _ in _ENCODERS)
    raise EngineError(f"PyAV was built without an encoder for videos; expected one of {names}")
