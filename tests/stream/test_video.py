"""Video files against the pictures they were made of."""

from __future__ import annotations

import errno
import gc
import itertools
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from videos import number_of, numbered, write_video

from engine.config import ImageLimits
from engine.errors import SourceError
from engine.stream.opening import StreamOptions, open_source
from engine.stream.sources import MediaClock, Pacer
from engine.stream.target import file_target
from engine.stream.video import VideoInput

NUMBERS = [0, 40, 80, 120, 160, 200]


def pictures_of(path: Path, **limits: int) -> list[np.ndarray]:
    video = VideoInput(file_target(str(path)), 10, ImageLimits(**limits))
    try:
        return [picture.pixels() for picture in video.pictures()]
    finally:
        video.close()


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv", "a.ts", "a.mov", "b:c d'%05d.mp4", "http:x.avi"])
def test_every_container_gives_the_pictures_and_times_that_went_in(tmp_path, name) -> None:
    path = write_video(tmp_path / name, [numbered(n) for n in NUMBERS], rate=5)
    frames = list(open_source(str(path), StreamOptions()).frames())
    assert [f.index for f in frames] == list(range(6))
    assert [f.timestamp for f in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0], abs=1e-6)
    assert [number_of(f.image) for f in frames] == pytest.approx(NUMBERS, abs=8)
    assert all(f.image.shape == (48, 64, 3) and f.image.dtype == np.uint8 for f in frames)
    assert not any(f.warnings or f.dropped for f in frames)


def test_a_lossless_codec_gives_the_very_pixels(tmp_path) -> None:
    noise = [np.random.default_rng(i).integers(0, 256, (33, 41, 3), np.uint8) for i in range(3)]
    path = write_video(tmp_path / "a.mkv", noise, codec="ffv1", pixels="bgr0")
    assert all(np.array_equal(a, b) for a, b in zip(pictures_of(path), noise, strict=True))


def test_frames_are_freed_at_once(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(n) for n in NUMBERS])
    gc.collect()
    # Other tests may hold frames of theirs.
    others = _frames_in_memory()
    gc.disable()
    try:
        seen = sum(1 for _ in open_source(str(path), StreamOptions()).frames())
        waiting = [frame for frame in _frames_in_memory() if all(frame is not other for other in others)]
    finally:
        gc.enable()
    # A circle of references would keep each until it is looked for; the reader itself may hold the last one.
    assert seen == len(NUMBERS)
    assert len(waiting) <= 1


def _frames_in_memory() -> list:
    return [item for item in gc.get_objects() if type(item).__name__ == "VideoFrame"]


def test_fps_takes_the_frames_that_are_due(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(8 * i) for i in range(30)], rate=10)
    for fps, expected in ((5, range(0, 30, 2)), (10, range(30)), (100, range(30)), (0.5, [0, 20])):
        frames = list(open_source(path, StreamOptions(fps=fps)).frames())
        assert [f.index for f in frames] == list(expected), fps
    # 4 of 10: 0, 0.25, 0.5, 0.75 s fall on the frames at or after them.
    frames = list(open_source(path, StreamOptions(fps=4)).frames())
    assert [f.index for f in frames] == [0, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28]


def test_pacing_goes_on_with_its_beat_after_a_gap() -> None:
    pacer = Pacer(1.0)
    assert [pacer.wants(t) for t in (0, 0.5, 1.0, 5.2, 5.3, 5.9, 6.0, 7.1)] == [
        True, False, True, True, False, False, True, True,
    ]  # fmt: skip


def test_times_never_run_backwards_and_are_made_up_where_there_are_none() -> None:
    clock = MediaClock(None)
    assert [clock(t) for t in (7.0, 7.5, 7.2, 8.0)] == [0, 0.5, 0.5, 1.0]
    clock = MediaClock(10)
    assert [clock(None) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_times_go_on_where_the_container_begins_anew() -> None:
    clock = MediaClock(10)
    times = [(clock(t), clock.set_back) for t in (5.0, 5.1, 7.0, 5.0, 5.1, 4.9, 9.0)]
    assert [t for t, _ in times] == pytest.approx([0, 0.1, 2.0, 2.1, 2.2, 2.2, 6.1])
    assert [back for _, back in times] == pytest.approx([0, 0, 0, 2.0, 0, 0, 0])


def test_joined_recordings_are_counted_to_their_end(tmp_path) -> None:
    """As ``cat a.ts a.ts`` makes them, and recorders after a camera's restart."""
    part = write_video(
        tmp_path / "a.ts", [numbered(8 * i) for i in range(30)], rate=10, codec="mpeg2video"
    ).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(part + part)
    frames = list(open_source(str(path), StreamOptions(fps=5)).frames())
    assert len(frames) == 30
    assert np.diff([f.timestamp for f in frames]) == pytest.approx(np.full(29, 0.2), abs=0.11)
    (told,) = [w for f in frames for w in f.warnings]
    assert told == "the video's clock goes back by 2.9 s here; times go on regardless"


def with_sound(path: Path, pictures: int, sound: int) -> Path:
    """A video of so many pictures, one every 0.1 s, and so many packets of silence, two for each picture."""
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=10), container.add_stream("pcm_s16le", rate=8000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(sound):
            if number % 2 == 0 and number // 2 < pictures:
                container.mux(video.encode(av.VideoFrame.from_ndarray(numbered(number), format="rgb24")))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 400), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts = 8000, 400 * number
            container.mux(audio.encode(silence))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path


def test_it_is_looked_before_every_packet_also_of_sound(tmp_path) -> None:
    video = VideoInput(file_target(str(with_sound(tmp_path / "a.mkv", 5, 200))), 10, ImageLimits())
    calls = []
    assert len(list(video.pictures(lambda: calls.append(0)))) == 5
    assert len(calls) >= 205

    def stop() -> None:
        if len(calls) > 400:
            raise InterruptedError("enough")
        calls.append(0)

    video = VideoInput(file_target(str(tmp_path / "a.mkv")), 10, ImageLimits())
    pictures = video.pictures(stop)
    with pytest.raises(InterruptedError, match="enough"):
        list(pictures)
    video.close()


class NotYet:
    """A container whose packets are late, as those of Apple's cameras: it says so instead of waiting."""

    def __init__(self, container: av.container.InputContainer, late: int):
        self._container, self._packets, self._late = container, container.demux(), late

    def close(self) -> None:
        self._container.close()

    def demux(self) -> Iterator[object]:
        while True:
            if self._late:
                self._late -= 1
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            yield next(self._packets)


@pytest.mark.parametrize("late", [0, 1, 7])
def test_a_camera_that_has_no_picture_yet_is_asked_again(late, tmp_path) -> None:
    path = write_video(tmp_path / "a.mjpeg", [numbered(n) for n in NUMBERS], codec="mjpeg", pixels="yuvj420p")
    video = VideoInput(file_target(str(path)), 10, ImageLimits())
    video._container = NotYet(video._container, late)
    assert len(list(itertools.islice(video.pictures(), len(NUMBERS)))) == len(NUMBERS)
    video._container = NotYet(video._container._container, 1 << 30)
    video._timeout = 0.02
    with pytest.raises(SourceError, match="gave no picture in time"):
        list(video.pictures())


def test_what_has_no_end_is_decoded_without_delay(tmp_path) -> None:
    """FFmpeg's threads for whole pictures give each as many pictures late as there are threads."""
    endless = write_video(tmp_path / "a.h264", [numbered(n) for n in NUMBERS], codec="libx264")
    recording = write_video(tmp_path / "a.mp4", [numbered(n) for n in NUMBERS], codec="libx264")
    kinds = [VideoInput(file_target(str(p)), 10, ImageLimits())._track.thread_type for p in (endless, recording)]
    assert [str(kind.name) for kind in kinds] == ["SLICE", "AUTO"]


def corners(picture: np.ndarray) -> list[str]:
    names = {(True, False): "red", (False, True): "green", (False, False): "black"}
    return [names[bool(p[0] > 128), bool(p[1] > 128)] for p in picture[[4, 4, -4, -4], [4, -4, 4, -4]]]


def test_a_phone_held_upright_gives_upright_pictures(tmp_path) -> None:
    """The track's matrix maps (x, y) to (-y, x): a quarter turn clockwise on the screen (ISO 14496-12, 8.3.2)."""
    picture = np.zeros((48, 96, 3), np.uint8)
    picture[:24, :48, 0] = picture[:24, 48:, 1] = 255
    path = write_video(tmp_path / "a.mp4", [picture] * 2)
    data = bytearray(path.read_bytes())
    straight = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    at = data.index(straight, data.index(b"tkhd"))
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    (first, _) = pictures_of(path)
    assert corners(picture) == ["red", "green", "black", "black"]
    assert first.shape == (96, 48, 3)
    # Clockwise: what was at the top left is at the top right.
    assert corners(first) == ["black", "red", "black", "green"]
    half = pictures_of(write_video(tmp_path / "b.mp4", [picture], turn=180))[0]
    assert corners(half) == ["black", "black", "green", "red"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a video at all" * 100,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile other.mp4\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>',
        b"\x89PNG\r\n\x1a\n" + b"\0" * 100,
    ],
    ids=["empty", "text", "hls", "concat", "dash", "png"],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ts"])
def test_what_is_no_video_is_refused(tmp_path, content, name) -> None:
    write_video(tmp_path / "other.mp4", [numbered(0)])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot be opened|no picture to decode"):
        pictures_of(tmp_path / name)


def test_a_playlist_opens_no_other_file(tmp_path) -> None:
    """The same playlist opens with plain PyAV: it is the engine that refuses."""
    write_video(tmp_path / "other.ts", [numbered(0)] * 5)
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(text)
    with av.open(str(tmp_path / "a.m3u8")) as container:
        assert container.streams.video
    with pytest.raises(SourceError, match="cannot be opened"):
        pictures_of(tmp_path / "a.m3u8")


def test_pictures_over_the_limit_are_refused_unseen(tmp_path) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(0)] * 2)
    assert len(pictures_of(path, max_pixels=64 * 48)) == 2
    with pytest.raises(SourceError, match="64x48 = 3072 pixels, more than the limit of 3071"):
        pictures_of(path, max_pixels=64 * 48 - 1)


# Its header tells no size to the container: FFmpeg decodes the first picture to find it out.
_PROBE = """
import resource, sys
from engine.config import ImageLimits
from engine.errors import SourceError
from engine.stream.target import file_target
from engine.stream.video import VideoInput
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    list(VideoInput(file_target(sys.argv[1]), 5.0, ImageLimits(max_pixels=1_000_000)).pictures())
except SourceError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_first_picture_over_the_limit_is_not_even_probed(tmp_path) -> None:
    """A GIF of 50 bytes that claims 144 megapixels, of four bytes each."""
    screen = b"GIF89a" + struct.pack("<HH", 12000, 12000) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    picture = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0" + b"\x02\x02\x44\x01\0"
    (tmp_path / "a.gif").write_bytes(screen + picture + b"\x3b")
    command = [sys.executable, "-P", "-c", _PROBE, str(tmp_path / "a.gif")]
    message, kibibytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "more than 1000000 pixels" in message
    # The picture alone would give 560,000.
    assert int(kibibytes) < 100_000


def test_sound_alone_is_no_video(tmp_path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux([*track.encode(sound), *track.encode(None)])
    with pytest.raises(SourceError, match="no video track"):
        pictures_of(tmp_path / "a.mkv")


def test_without_pyav_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(0)])
    monkeypatch.setitem(sys.modules, "av", None)
    for source in (path, 0, "rtsp://127.0.0.1/x"):
        with pytest.raises(SourceError, match=r"crowd-engine\[video\]"):
            open_source(source, StreamOptions())
