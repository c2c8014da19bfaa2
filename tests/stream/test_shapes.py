"""Turned, mirrored and stretched videos, covers, and clocks that start late: the film as players show it."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from videos import number_of, numbered, write_video

from engine.errors import SourceError
from engine.outputs.video import VideoWriter
from engine.stream.opening import StreamOptions, open_source
from engine.stream.tracks import orientation_of, shown_size

ONE = 1 << 16


def frames_of(path: Path) -> list[np.ndarray]:
    return [frame.image for frame in open_source(str(path), StreamOptions()).frames()]


def corners() -> np.ndarray:
    """A picture of which no turn or mirror image is the same."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32], picture[24:, 32:] = 40, 100, 160, 220
    return picture


def shown(stored: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Each pixel moved to where the matrix says, by the formula of ISO/IEC 14496-12."""
    height, width = stored.shape[:2]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    picture = np.zeros((to_y.max() + 1, to_x.max() + 1, 3), np.uint8)
    picture[to_y, to_x] = stored
    return picture


MATRICES = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_is_shown_as_players_do(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = write_video(tmp_path / "a.mp4", [corners()] * 2)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value * ONE for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = shown(corners(), *matrix)
    for image in frames_of(path):
        assert image.shape == expected.shape
        assert image.flags.c_contiguous
        assert np.abs(image.astype(int) - expected).mean() < 4


def test_matrices_with_a_scale_an_odd_angle_or_nothing_in_them() -> None:
    def of(a: float, b: float, c: float, d: float) -> int:
        return orientation_of(np.array([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30], np.int32))

    assert of(0, 0, 0, 0) == of(2, 0, 0, 2) == of(1, 0.1, -0.1, 1) == 1
    assert of(-0.5, 0, 0, 0.5) == 2
    assert of(0, 3, -3, 0) == 6


def stretched(path: Path, width: int, height: int, shape: Fraction) -> Path:
    """A video of a circle of 200 pixels on 640x480, stored as ``width`` x ``height`` pixels of that shape."""
    y, x = np.mgrid[:height, :width]
    circle = np.hypot((x + 0.5) * 640 / width - 320, (y + 0.5) * 480 / height - 240) < 100
    picture = np.repeat((circle * 200 + 20).astype(np.uint8)[..., None], 3, 2)
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=5)
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        track.codec_context.sample_aspect_ratio = shape
        for _ in range(3):
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
@pytest.mark.parametrize(("width", "height", "shape"), [(320, 480, Fraction(2)), (640, 240, Fraction(1, 2))])
def test_pixels_that_are_not_square_are_stretched_first(tmp_path, name, width, height, shape) -> None:
    path = stretched(tmp_path / name, width, height, shape)
    for image in frames_of(path):
        assert image.shape == (480, 640, 3)
        rows, columns = np.nonzero(image[..., 0] > 128)
        assert np.ptp(rows) == pytest.approx(200, abs=4)
        assert np.ptp(columns) == pytest.approx(200, abs=4)


def test_a_turned_picture_is_stretched_before_it_is_turned(tmp_path: Path) -> None:
    path = stretched(tmp_path / "a.mp4", 320, 480, Fraction(2))
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 20 + 16
    data[place : place + 36] = struct.pack(">9i", 0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    assert frames_of(path)[0].shape == (640, 480, 3)


def test_what_is_saved_has_the_shape_that_was_shown(tmp_path: Path) -> None:
    frames = frames_of(stretched(tmp_path / "a.mp4", 320, 480, Fraction(2)))
    with VideoWriter(tmp_path / "out.mp4") as writer:
        for number, image in enumerate(frames):
            writer.write(image, number / 5)
    with av.open(str(tmp_path / "out.mp4")) as container:
        track = container.streams.video[0]
        assert (track.width, track.height) == (640, 480)
        assert track.sample_aspect_ratio in (None, 0, 1)


def test_the_shown_size_is_what_the_limit_is_for(tmp_path: Path, monkeypatch) -> None:
    path = stretched(tmp_path / "a.mp4", 320, 480, Fraction(2))
    monkeypatch.setenv("CROWD_MAX_PIXELS", str(640 * 480 - 1))
    with pytest.raises(SourceError, match="640x480"):
        open_source(str(path), StreamOptions())


def test_sizes_of_common_pixel_shapes() -> None:
    """PAL and NTSC, HDV, and none."""
    assert shown_size(720, 576, Fraction(64, 45)) == (1024, 576)
    assert shown_size(720, 480, Fraction(8, 9)) == (720, 540)
    assert shown_size(1440, 1080, Fraction(4, 3)) == (1920, 1080)
    for shape in (None, Fraction(0), Fraction(1), Fraction(-1, 2)):
        assert shown_size(7, 5, shape) == (7, 5)


def two_tracks(
    path: Path, sizes: list[tuple[int, int]], lengths: list[int], codecs: list[str], flags: list[int]
) -> Path:
    """A container of two video tracks; their pictures tell 40 and 200."""
    with av.open(str(path), "w") as container:
        tracks = []
        for (width, height), codec, flag in zip(sizes, codecs, flags, strict=True):
            track = container.add_stream(codec, rate=5)
            track.width, track.height = width, height
            track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            track.disposition = flag
            tracks.append(track)
        for track, (width, height), length, number in zip(tracks, sizes, lengths, (40, 200), strict=True):
            for _ in range(length):
                picture = av.VideoFrame.from_ndarray(numbered(number, height, width), format="rgb24")
                container.mux(track.encode(picture))
            container.mux(track.encode())
    return path


DEFAULT = 1


@pytest.mark.parametrize(
    ("name", "sizes", "lengths", "codecs", "flags", "expected"),
    [
        ("cover before the film.mp4", [(320, 240), (64, 48)], [1, 6], ["mjpeg", "mpeg4"], [DEFAULT, DEFAULT], 200),
        ("film before its cover.mp4", [(64, 48), (320, 240)], [6, 1], ["mpeg4", "mjpeg"], [DEFAULT, 0], 40),
        ("cover of unknown length.mkv", [(320, 240), (64, 48)], [1, 6], ["mjpeg", "mpeg4"], [DEFAULT, 0], 200),
        ("preview first.mp4", [(64, 48), (160, 120)], [6, 6], ["mpeg4", "mpeg4"], [DEFAULT, DEFAULT], 200),
        ("preview first.mkv", [(64, 48), (160, 120)], [6, 6], ["mpeg4", "mpeg4"], [0, 0], 200),
        ("default is smaller.mkv", [(64, 48), (160, 120)], [6, 6], ["mpeg4", "mpeg4"], [DEFAULT, 0], 40),
        ("two of a kind.mp4", [(64, 48), (64, 48)], [6, 6], ["mpeg4", "mpeg4"], [DEFAULT, DEFAULT], 40),
    ],
)
def test_the_film_is_watched_and_not_its_cover(tmp_path, name, sizes, lengths, codecs, flags, expected) -> None:
    frames = frames_of(two_tracks(tmp_path / name, sizes, lengths, codecs, flags))
    assert len(frames) == 6
    assert number_of(frames[0]) == pytest.approx(expected, abs=8)


# AVI has no times but those of its rate.
@pytest.mark.parametrize("kind", ["mkv", "webm", "mp4", "mov", "ts"])
@pytest.mark.parametrize("start", [8.0, -1.0])
def test_a_clock_that_starts_late_or_before_zero(tmp_path: Path, kind: str, start: float) -> None:
    path = tmp_path / f"a.{kind}"
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as container:
        track = container.add_stream("libvpx" if kind == "webm" else "mpeg4", rate=5)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            picture = av.VideoFrame.from_ndarray(numbered(8 * index), format="rgb24")
            picture.pts, picture.time_base = round(1000 * (start + index / 5)), Fraction(1, 1000)
            container.mux(track.encode(picture))
        container.mux(track.encode())
    frames = list(open_source(str(path), StreamOptions()).frames())
    # Players, too, leave out what MP4 keeps before zero.
    least = 15 if start < 0 else 20
    assert least <= len(frames) <= 20
    assert frames[0].timestamp == 0
    assert frames[-1].timestamp == pytest.approx((len(frames) - 1) / 5, abs=0.01)
    assert all(frame.warnings == () for frame in frames)


def test_no_picture_is_lost_where_sound_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        sound, track = container.add_stream("aac", rate=8000, layout="mono"), container.add_stream("mpeg4", rate=5)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for start in range(0, 16000, 1000):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 8000, start
            container.mux(sound.encode(silence))
        container.mux(sound.encode())
        for number in range(0, 80, 8):
            container.mux(track.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
        container.mux(track.encode())
    assert [number_of(image) for image in frames_of(path)] == pytest.approx(list(range(0, 80, 8)), abs=4)


@pytest.mark.parametrize("kind", ["mkv", "mp4", "ts", "webm", "avi", "mov"])
def test_segments_whose_clock_goes_on_are_whole(tmp_path: Path, kind: str) -> None:
    """As ``ffmpeg -f segment`` leaves them."""
    options = {"segment_time": "2"}
    with av.open(str(tmp_path / f"%02d.{kind}"), "w", format="segment", options=options) as container:
        codec = {"webm": "libvpx", "ts": "mpeg2video"}.get(kind, "mpeg4")
        track = container.add_stream(codec, rate=5, options={"g": "5"})
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for index in range(30):
            container.mux(track.encode(av.VideoFrame.from_ndarray(numbered(8 * index), format="rgb24")))
        container.mux(track.encode())
    segments = sorted(tmp_path.iterdir())
    assert len(segments) == 3
    # Encoders put a picture or two on the other side of a cut.
    lengths = [len(frames_of(path)) for path in segments]
    assert sum(lengths) == 30
    assert min(lengths) >= 8


def test_a_late_film_that_is_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        track = container.add_stream("mpeg4", rate=5)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for index in range(100):
            noise = np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
            picture = av.VideoFrame.from_ndarray(noise, format="rgb24")
            picture.pts, picture.time_base = 8000 + 200 * index, Fraction(1, 1000)
            container.mux(track.encode(picture))
        container.mux(track.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"ends early|damaged"):
        frames_of(path)
