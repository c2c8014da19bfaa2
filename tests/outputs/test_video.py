"""The video writer: what FFmpeg reads back, and that a file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError, EngineError
from engine.outputs import video
from engine.outputs.video import VideoWriter

av = pytest.importorskip("av", reason="videos need the extra 'video'")

LEVELS = (30, 200, 90, 160, 60)


def grey(level: int, height: int = 36, width: int = 50) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def read(path: Path) -> list[tuple[float, np.ndarray]]:
    with av.open(str(path)) as container:
        return [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


@pytest.fixture(params=["libx264", "mpeg4"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each encoder that the writer may choose, as if it were the only one."""
    if request.param not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {request.param}")
    monkeypatch.setattr(video, "_ENCODERS", tuple(e for e in video._ENCODERS if e[0] == request.param))
    return request.param


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".MP4"])
@pytest.mark.parametrize("times", [(0, 0.04, 0.08, 0.12, 0.16), (5.0, 5.1, 5.25, 5.3, 9.0)], ids=["even", "uneven"])
def test_pictures_and_times_come_back(encoder: str, suffix: str, times: tuple[float, ...], tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, fps=25) as writer:
        for level, timestamp in zip(LEVELS, times, strict=True):
            writer.write(grey(level), timestamp)
        assert not path.exists()
    frames = read(path)
    # Matroska keeps milliseconds.
    assert [t for t, _ in frames] == pytest.approx([t - times[0] for t in times], abs=6e-4)
    assert [p.mean() for _, p in frames] == pytest.approx(LEVELS, abs=4)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == ("h264" if encoder == "libx264" else encoder)
        # The last frame is shown for the time of one.
        assert container.duration / 1e6 == pytest.approx(times[-1] - times[0] + 0.04, abs=0.01)


@pytest.mark.parametrize("fps", [24, 25, 30, 30000 / 1001, 60, 0.5, 12.34])
def test_usual_rates_are_exact(fps: float, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps=fps) as writer:
        for index in range(40):
            writer.write(grey(index), index / fps)
    times = [t for t, _ in read(tmp_path / "out.mp4")]
    assert times == pytest.approx([index / fps for index in range(40)], abs=1 / 60_000)


@pytest.mark.parametrize("shape", [(1, 1), (37, 51), (48, 3), (17, 200)])
def test_odd_sides_get_a_copy_of_the_last_row_and_column(encoder: str, shape: tuple[int, int], tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as writer:
        writer.write(grey(200, *shape), 0)
    ((_, picture),) = read(tmp_path / "out.mp4")
    assert picture.shape == (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, 3)
    assert np.abs(picture.astype(int) - 200).max() < 12


def test_pictures_of_other_sizes_are_fitted(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as writer:
        for number, picture in enumerate([grey(220, 40, 60), grey(220, 80, 60), grey(220, 4, 60), grey(220, 2000, 2)]):
            writer.write(picture, number)
    frames = [picture.mean(axis=-1) for _, picture in read(tmp_path / "out.mp4")]
    assert {frame.shape for frame in frames} == {(40, 60)}
    assert frames[0].min() > 190
    # Half as wide, in the middle, between black.
    assert frames[1][:, 20:40].min() > 150
    assert max(frames[1][:, :10].max(), frames[1][:, 50:].max()) < 30
    assert frames[2][:15].max() < 30


def test_times_that_do_not_advance(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", fps=10) as writer:
        for timestamp in (1.0, 1.0, 0.5, 2.0):
            writer.write(grey(90), timestamp)
    assert [t for t, _ in read(tmp_path / "out.mp4")] == pytest.approx([0, 0.1, 0.2, 1.0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_old_file_and_nothing_else(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")

    def fail() -> None:
        with VideoWriter(path) as writer:
            for number in range(3):
                writer.write(grey(number), number)
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_failed_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    writer = VideoWriter(tmp_path / "out.mp4")
    writer.write(grey(1), 0)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        writer.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full, which is always full")
def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = VideoWriter(tmp_path / "out.mkv")
    monkeypatch.setattr(writer._file, "part", tmp_path / "full")
    (tmp_path / "full").symlink_to("/dev/full")
    rng = np.random.default_rng(0)

    def fill() -> None:
        for number in range(200):
            writer.write(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8), number / 10)
        writer.close()

    with pytest.raises(OSError, match="space"):
        fill()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("written", [0, 1])
def test_an_interrupted_picture_is_left_out(written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Ctrl-C met, the video is completed with the pictures before it; of none there is no file."""
    writer = VideoWriter(tmp_path / "out.mp4")
    black = np.zeros((16, 16, 3), np.uint8)
    for number in range(written):
        writer.write(black, number)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_encode", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.write(black, written)
    writer.close()
    assert [x.name for x in tmp_path.iterdir()] == ["out.mp4"] * written


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path) as writer:
        pass
    writer.close()
    assert path.read_bytes() == b"old"
    with pytest.raises(EngineError, match="closed"):
        writer.write(grey(1), 0)


@pytest.mark.parametrize(
    ("name", "fps", "message"),
    [
        ("out.avi", 25, r"\.mp4, \.mov, \.mkv"),
        ("out", 25, "end it in"),
        ("gone/out.mp4", 25, "does not exist"),
        ("out.mp4", 0, "fps"),
        ("out.mp4", float("nan"), "fps"),
    ],
)
def test_arguments_are_checked(name: str, fps: float, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoWriter(tmp_path / name, fps)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_pictures_are_checked(picture: Any, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as writer, pytest.raises(ConfigError, match="uint8"):
        writer.write(picture, 0)


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineError, match=r"crowd-engine\[video\]"):
        VideoWriter(tmp_path / "out.mp4")
    monkeypatch.undo()
    monkeypatch.setattr(video, "_ENCODERS", (("no-such-encoder", {}),))
    with VideoWriter(tmp_path / "out.mp4") as writer, pytest.raises(EngineError, match="no-such-encoder"):
        writer.write(grey(0), 0)
