"""``CrowdCounter.stream`` end to end: every kind of source, against counting the same pictures one by one."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from same_result import same_result
from videos import numbered, write_video

import engine
from engine.errors import ConfigError, EngineError, ImageError, SourceError
from engine.stream.live import LiveVideo, Patience
from engine.stream.opening import StreamOptions, open_source
from engine.stream.sources import VideoSource

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def counter():
    with engine.CrowdCounter(steps=1) as counter:
        yield counter


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    """A window that moves over a picture with people."""
    picture = np.asarray(Image.open(PICTURE).convert("RGB"))
    return [np.ascontiguousarray(picture[120:216, 330 + 4 * i : 490 + 4 * i]) for i in range(5)]


def test_a_lossless_video_is_counted_like_its_pictures(counter, crops, tmp_path) -> None:
    path = write_video(tmp_path / "a.mkv", crops, rate=25, codec="ffv1", pixels="bgr0")
    with counter.stream(path) as stream:
        frames = list(stream)
    assert not stream.is_live
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [f.timestamp for f in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=1e-3)
    for frame, crop in zip(frames, crops, strict=True):
        assert same_result(frame.result, counter.count(crop))
        assert np.array_equal(frame.image, crop)
        assert (frame.dropped, frame.warm, frame.warnings) == (0, False, ())
    assert sum(f.result.count for f in frames) > 0


def test_counting_several_frames_at_once_changes_nothing(counter, crops) -> None:
    with engine.CrowdCounter(steps=1, performance="throughput") as other:
        frames = list(other.stream(crops * 3))
        assert [f.index for f in frames] == list(range(15))
        assert [f.result.count for f in frames] == [counter.count(crop).count for crop in crops * 3]
        with other.stream(itertools.repeat(crops[0])) as endless:
            assert [next(endless).index for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_folder_is_counted_by_name_and_damaged_pictures_are_named(counter, crops, tmp_path) -> None:
    for name, crop in zip(("b.png", "a.png", "d.png"), crops, strict=False):
        Image.fromarray(crop).save(tmp_path / name)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff broken")
    (tmp_path / "notes.txt").write_text("no picture")
    frames = list(counter.stream(tmp_path, fps=2))
    assert [f.index for f in frames] == [0, 1, 3]
    assert [f.timestamp for f in frames] == [0, 0.5, 1.5]
    assert all(same_result(f.result, counter.count(crops[i])) for f, i in zip(frames, (1, 0, 2), strict=True))
    assert [len(f.warnings) for f in frames] == [0, 0, 1]
    assert "c.jpg" in frames[2].warnings[0]


def test_a_folder_that_ends_with_damage_says_so_after_the_others(counter, crops, tmp_path) -> None:
    Image.fromarray(crops[0]).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"broken")
    stream = counter.stream(tmp_path)
    assert next(stream).index == 0
    with pytest.raises(SourceError, match=r"b\.jpg"):
        next(stream)
    assert next(stream, None) is None


def test_an_iterable_may_reuse_its_memory_and_mix_kinds(counter, crops) -> None:
    def frames() -> Iterator[object]:
        buffer = np.empty_like(crops[0])
        for crop in crops:
            buffer[:] = crop[..., ::-1]
            yield buffer
        yield Image.fromarray(crops[0])
        yield str(PICTURE)

    results = list(counter.stream(frames(), color="bgr"))
    expected = [*(counter.count(crop) for crop in crops), counter.count(crops[0]), counter.count(PICTURE)]
    assert all(same_result(a.result, b) for a, b in zip(results, expected, strict=True))
    assert len(list(counter.stream(np.stack(crops[:2])))) == 2


def test_live_iterables_deliver_the_newest_and_count_what_they_drop(counter, crops) -> None:
    stream = counter.stream(iter(crops * 20), live=True)
    frames = list(stream)
    assert stream.is_live
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    # The last one is never lost, and every other is either counted or dropped.
    assert frames[-1].index == 99
    assert sum(f.dropped for f in frames) == stream.dropped == 100 - len(frames)


def test_zones_and_steps_are_passed_on(counter, crops) -> None:
    zones = {"left": [(0, 0), (80, 0), (80, 96), (0, 96)]}
    (frame,) = counter.stream([crops[0]], zones=zones, steps=2)
    assert same_result(frame.result, counter.count(crops[0], steps=2))
    assert frame.result.zones == counter.count(crops[0], steps=2, zones=zones).zones
    data = frame.to_dict()
    assert list(data)[:6] == ["file", "index", "timestamp", "time", "dropped", "warm"]
    assert data["file"] is data["time"] is None
    assert data["count"] == frame.result.count
    assert str(frame) == f"0.00 s: {frame.result}"


def test_a_picture_that_is_none_ends_an_iterable(counter, crops) -> None:
    stream = counter.stream([crops[0], np.zeros((2, 2, 2, 2), np.uint8), crops[1]])
    assert next(stream).index == 0
    with pytest.raises(ImageError, match="shape"):
        next(stream)


def test_leaving_early_closes_the_source(counter, tmp_path) -> None:
    closed = []

    def frames() -> Iterator[np.ndarray]:
        try:
            while True:
                yield numbered(0)
        finally:
            closed.append(threading.current_thread().name)

    with counter.stream(frames()) as stream:
        next(stream)
        reader = stream._reader._thread
    assert not reader.is_alive()
    assert next(stream, None) is None
    del stream
    assert len(closed) == 1


@pytest.mark.parametrize("performance", ["balanced", "latency", "throughput"])
@pytest.mark.parametrize("warm_start", [True, False])
def test_a_closed_counter_ends_its_streams(warm_start: bool, performance: str) -> None:
    counter = engine.CrowdCounter(steps=1, performance=performance)
    # Some pictures are counted ahead of the results.
    stream = counter.stream([numbered(0)] * 20, live=False, warm_start=warm_start)
    next(stream)
    counter.close()
    with pytest.raises(EngineError, match="closed"):
        list(stream)
    with pytest.raises(EngineError, match="closed"):
        counter.stream([numbered(0)])


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ("missing.mp4", {}, SourceError, "does not exist"),
        (str(PICTURE), {}, SourceError, "single picture"),
        (PICTURE.parents[1], {}, SourceError, "no pictures in folder"),
        ("file:///etc/passwd", {}, SourceError, "cannot open file://"),
        ("concat://a", {}, SourceError, "cannot open concat://"),
        ("rtsp://127.0.0.1:1/x", {}, SourceError, "cannot be opened"),
        (99, {}, SourceError, "camera 99 cannot be opened"),
        (-1, {}, ConfigError, "numbered from 0"),
        (True, {}, ConfigError, "source must be"),
        (None, {}, ConfigError, "source must be"),
        (b"data", {}, ConfigError, "source must be"),
        (np.zeros((4, 4, 3), np.uint8), {}, ConfigError, "into a list"),
        ([], {"fps": 0}, ConfigError, "fps must be"),
        ([], {"fps": float("nan")}, ConfigError, "fps must be"),
        ([], {"timeout": -1}, ConfigError, "timeout must be"),
        ([], {"give_up": "1"}, ConfigError, "give_up must be"),
        ([], {"color": "hsv"}, ConfigError, "color must be"),
        ([], {"live": "yes"}, ConfigError, "live must be"),
        (PICTURE.parent, {"live": True}, ConfigError, "live=True is for"),
        ([], {"steps": 0}, ConfigError, "steps must be"),
        ([], {"warm_start": "yes"}, ConfigError, "warm_start must be"),
    ],
    ids=str,
)
def test_wrong_sources_and_options_are_errors_at_once(counter, source, options, error, words) -> None:
    with pytest.raises(error, match=words):
        counter.stream(source, **options)


def test_an_empty_iterable_is_an_empty_stream(counter) -> None:
    assert list(counter.stream([])) == []


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder; without its length, what is under /live/."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith("/live/"):
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        self.wfile.write(Path(self.directory, self.path.removeprefix("/live/")).read_bytes())


@pytest.fixture
def server(tmp_path):
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_on_a_server_has_an_end_and_a_stream_has_none(server, tmp_path) -> None:
    for name in ("a.mkv", "a.ts"):
        write_video(tmp_path / name, [numbered(0)] * 6)
    source = open_source(f"{server}/a.mkv", StreamOptions())
    assert isinstance(source, VideoSource)
    assert [f.index for f in source.frames()] == [0, 1, 2, 3, 4, 5]
    source = open_source(f"{server}/live/a.ts", StreamOptions())
    assert isinstance(source, LiveVideo)
    frames = source.frames()
    assert next(frames).index == 0
    frames.close()
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(f"{server}/missing.ts", StreamOptions())


def test_a_server_may_not_lead_to_local_files(server, tmp_path) -> None:
    video = write_video(tmp_path / "secret.ts", [numbered(0)] * 6)
    (tmp_path / "a.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError, match=r"cannot be opened|no video track|no picture"):
        list(open_source(f"{server}/a.m3u8", StreamOptions()).frames())


def test_a_server_that_never_answers_is_an_error() -> None:

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x.ts"
        with pytest.raises(SourceError, match="no answer in time"):
            open_source(address, StreamOptions(patience=Patience(timeout=0.2)))
