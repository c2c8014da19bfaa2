"""Whatever a stream's source may be -> an open source."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from engine.config import PICTURE_SUFFIXES, ImageLimits
from engine.errors import ConfigError, SourceError
from engine.image.load import is_many_pictures, load_image
from engine.stream.live import LivePictures, LiveVideo, Patience
from engine.stream.snapshots import Snapshots, take_snapshot
from engine.stream.sources import PictureSource, Snapshot, Source, VideoSource, find_folder
from engine.stream.target import Target, file_target, url_target, webcam_target
from engine.stream.video import VideoInput, load_av
from engine.system.addresses import hide_password

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What may be opened over the network; what else FFmpeg knows reads local files.
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
# A server's answer that has an end is a file.
_MAYBE_FILES = ("http", "https")
# Pictures a second that are asked of an address with one picture, if nobody says.
SNAPSHOT_RATE = 1.0


@dataclass(frozen=True)
class StreamOptions:
    """How a source is read, checked.

    Attributes:
        fps: frames a second to count; of pictures, their rate; of an address that answers with one picture, how often
            it is asked.
        live: true to drop frames that are not taken in time; None leaves it to the kind of source.
        color: channel order of arrays.
        patience: with live sources and servers.
        every: seconds from one frame to the next, in place of ``fps``, which it sets.
        lost: is told why a live source was lost, and why it cannot be connected to again; None tells the log, once.

    Raises:
        ConfigError: a value is outside its range.
    """

    fps: float | None = None
    live: bool | None = None
    color: str = "rgb"
    patience: Patience = field(default_factory=Patience)
    every: float | None = None
    lost: Callable[[str], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.every is not None:
            _check_positive("every", self.every)
            # Copies with other settings have both.
            if self.fps not in (None, 1 / self.every):
                raise ConfigError("every and fps say the same thing; give one of them")
            object.__setattr__(self, "fps", 1 / self.every)
        if self.color not in ("rgb", "bgr"):
            raise ConfigError(f'color must be "rgb" or "bgr", got {self.color!r}')
        if self.live not in (None, True, False):
            raise ConfigError(f"live must be True, False or None, got {self.live!r}")
        if self.fps is not None:
            _check_positive("fps", self.fps)
        _check_positive("timeout", self.patience.timeout)
        _check_positive("give_up", self.patience.give_up, may_be_infinite=True)


def _check_positive(name: str, value: Any, may_be_infinite: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not value > 0 or (value == math.inf and not may_be_infinite):
        raise ConfigError(f"{name} must be a positive number, got {value!r}")


def open_source(source: Any, options: StreamOptions, snapshot: Snapshot = load_image) -> Source:
    """Open a source, so that a wrong one is an error at once.

    Args:
        source: path of a video file or of a folder of pictures, URL, number of a camera, or iterable of pictures.
        options: how it is read.
        snapshot: makes each item of an iterable a picture of its own.

    Raises:
        SourceError: it cannot be opened.
        ConfigError: it is of another kind.
    """
    if isinstance(source, bool):
        raise ConfigError(f"source must be a path, URL, camera number or iterable of pictures, got {source!r}")
    if isinstance(source, int):
        if source < 0:
            raise ConfigError(f"cameras are numbered from 0, got {source}")
        load_av()
        return _open_video(webcam_target(source), options, is_live=options.live is not False)
    if isinstance(source, (str, os.PathLike)):
        return _open_named(os.fspath(source), options)
    if not is_many_pictures(source):
        raise ConfigError(
            f"source must be a path, URL, camera number or iterable of pictures, got {type(source).__name__}; "
            "put a single picture into a list"
        )
    name = f"<{type(source).__name__}>"
    if options.live:
        return LivePictures(name, source, options.color, options.fps, options.patience.timeout, snapshot=snapshot)
    return PictureSource(name, source, options.color, options.fps, skips_damaged=False, snapshot=snapshot)


def _open_named(name: str, options: StreamOptions) -> Source:
    if not isinstance(name, str):
        raise ConfigError(f"source must be text, got the path {name!r}; decode it with os.fsdecode")
    if _URL.match(name):
        return _open_url(name, options)
    if os.path.isdir(name):
        _refuse_live(name, options)
        return PictureSource(f"folder {name}", find_folder(name), "rgb", options.fps, skips_damaged=True)
    if not os.path.exists(name):
        raise SourceError(f"{name} does not exist; expected a video file, a folder of pictures, a URL or a camera")
    # A .gif may be an animation.
    if os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES - {".gif"}:
        raise SourceError(
            f"{name} is a single picture, not a video; count it with count() or crowd count, or give its folder"
        )
    _refuse_live(name, options)
    return _open_video(file_target(name), options, is_live=False)


def _open_url(url: str, options: StreamOptions) -> Source:
    # Not with urllib: it refuses some passwords, and says them.
    scheme = url.partition(":")[0].lower()
    if scheme not in SCHEMES:
        raise SourceError(f"cannot open {scheme}:// addresses; expected one of {', '.join(SCHEMES)}, or a path")
    if scheme not in _MAYBE_FILES:
        return _open_video(url_target(url), options, options.live is not False)
    try:
        source = _open_video(url_target(url), options, options.live)
    except SourceError as error:
        # FFmpeg cannot read all that a server may answer with: pictures of formats of its own, or without a length.
        try:
            return _open_snapshots(url, options)
        except SourceError:
            raise error from None
    return source


def _open_snapshots(url: str, options: StreamOptions) -> Source:
    """An address that answers with one picture, asked for it once to see whether it does."""
    patience, every, name = options.patience, 1 / (options.fps or SNAPSHOT_RATE), hide_password(url)
    ask = partial(take_snapshot, url, patience.timeout, ImageLimits())
    first = ask()
    if options.live is False:
        return PictureSource(name, [first], "rgb", None, skips_damaged=False)
    patience = replace(patience, timeout=patience.timeout + every, give_up=patience.give_up + every)
    return LiveVideo(
        name, partial(Snapshots, ask, every), Snapshots(ask, every, first), None, patience, lost=options.lost
    )


def _refuse_live(name: str, options: StreamOptions) -> None:
    if options.live:
        raise ConfigError(f"live=True is for cameras, URLs and iterables: {name} is read frame by frame, in its turn")


def _open_video(target: Target, options: StreamOptions, is_live: bool | None) -> Source:
    patience = options.patience
    connect = partial(VideoInput, target, patience.timeout, ImageLimits())
    video = connect()
    if "://" in target.address and video.is_picture:
        video.close()
        return _open_snapshots(target.address, options)
    if is_live is None:
        is_live = video.duration is None
    if not is_live:
        return VideoSource(target.name, video, options.fps)
    return LiveVideo(target.name, connect, video, options.fps, patience, lost=options.lost)
