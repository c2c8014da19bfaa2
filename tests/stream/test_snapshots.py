"""Addresses of a single picture, from a server of this machine; and who tells where a frame is from, and when."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import number_of, numbered, write_video

from engine.config import ImageLimits
from engine.errors import ConfigError, SourceError
from engine.stream.live import LivePictures, LiveVideo, Patience, utc_time
from engine.stream.opening import StreamOptions, open_source
from engine.stream.snapshots import Snapshots, take_snapshot
from engine.stream.sources import find_folder


class Camera(BaseHTTPRequestHandler):
    """Each answer is a new picture, whose number is 8 more; the path says how it answers."""

    numbers: Iterator[int]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if "moved" in self.path:
            self.send_response(302)
            self.send_header("Location", "/snap.jpg" if "file" not in self.path else "file:///etc/hostname")
            self.end_headers()
        elif ("basic" in self.path or "digest" in self.path) and not self._is_known():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="a"' if "basic" in self.path else DIGEST)
            self.end_headers()
        elif "text" in self.path:
            self._answer(b"<html></html>", "text/html")
        elif "broken" in self.path:
            self._answer(b"\xff\xd8\xffno picture", "image/jpeg")
        elif "gone" in self.path:
            self.send_error(404)
        else:
            file = io.BytesIO()
            Image.fromarray(numbered(next(self.numbers))).save(file, "PNG" if "png" in self.path else "JPEG")
            self._answer(file.getvalue(), None if "untyped" in self.path else "image/jpeg")

    def _answer(self, data: bytes, kind: str | None) -> None:
        self.send_response(200)
        if kind:
            self.send_header("Content-Type", kind)
        if "unmeasured" not in self.path:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _is_known(self) -> bool:
        given = self.headers.get("Authorization", "")
        if "basic" in self.path:
            return given == "Basic " + base64.b64encode(b"me:p@ss").decode()
        parts = dict(re.findall(r'(\w+)="?([^",]+)"?', given))
        return parts.get("response") == _digest(parts) if parts else False


DIGEST = 'Digest realm="a", nonce="n", qop="auth", algorithm=MD5'


def _digest(parts: dict[str, str]) -> str:
    """RFC 2617."""

    def md5(*texts: str) -> str:
        return hashlib.md5(":".join(texts).encode()).hexdigest()

    asked = md5("GET", parts["uri"])
    return md5(md5("me", "a", "p@ss"), "n", parts["nc"], parts["cnonce"], "auth", asked)


@pytest.fixture
def camera() -> Iterator[str]:
    Camera.numbers = itertools.count(0, 8)
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["snap.jpg", "snap", "snap?png", "snap?untyped", "snap.jpg?unmeasured", "moved"])
def test_an_address_of_a_picture_is_asked_again(camera: str, path: str) -> None:
    source = open_source(f"http://{camera}/{path}", StreamOptions(every=0.02))
    assert source.is_live
    frames = list(itertools.islice(source.frames(), 4))
    source.close()
    numbers = [number_of(frame.image) for frame in frames]
    assert np.diff(numbers).tolist() == pytest.approx([8] * 3, abs=3)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert all(a.timestamp < b.timestamp and a.time <= b.time for a, b in itertools.pairwise(frames))
    name, query, _ = f"http://{camera}/{path}".partition("?")
    assert {frame.file for frame in frames} == {name + ("?..." if query else "")}


def test_it_is_asked_once_if_it_shall_not_be_live(camera: str) -> None:
    assert len(list(open_source(f"http://{camera}/snap.jpg", StreamOptions(live=False)).frames())) == 1


@pytest.mark.parametrize("path", ["basic", "digest"])
def test_user_and_password_of_the_address(camera: str, path: str) -> None:
    source = open_source(f"http://me:p%40ss@{camera}/{path}", StreamOptions(every=0.01))
    frames = list(itertools.islice(source.frames(), 2))
    assert frames[1].file == f"http://{camera}/{path}"
    with pytest.raises(SourceError, match=r"401|nauthorized"):
        open_source(f"http://me:wrong@{camera}/{path}", StreamOptions())


@pytest.mark.parametrize("path", ["text", "broken", "gone", "moved?file"])
def test_what_is_no_picture_is_an_error(camera: str, path: str) -> None:
    with pytest.raises(SourceError):
        open_source(f"http://{camera}/{path}", StreamOptions(patience=Patience(timeout=5)))
    with pytest.raises(SourceError, match="gave no picture"):
        take_snapshot(f"http://{camera}/{path}", 5, ImageLimits())


class _Time:
    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_questions_keep_their_beat_and_slow_answers_add_none() -> None:
    time, asked = _Time(), []
    answers = iter([0.0, 0.5, 7.0, 0.0])

    def ask() -> np.ndarray:
        asked.append(time.now)
        time.now += next(answers)
        return numbered(len(asked))

    pictures = Snapshots(ask, 5.0, None, time.clock, time.sleep).pictures(lambda: None)
    assert [number_of(picture.pixels()) for picture in itertools.islice(pictures, 4)] == [1, 2, 3, 4]
    assert asked == pytest.approx([0, 5, 10, 17])


def test_a_lost_camera_of_single_pictures_is_asked_on_and_the_next_frame_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter([numbered(8), *[SourceError("no answer")] * 5, numbered(16)])

    def ask() -> np.ndarray:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    live = LiveVideo("door", lambda: Snapshots(ask, 0.0), Snapshots(ask, 0.0), None, Patience(first_delay=0.01))
    first, second = itertools.islice(live.frames(), 2)
    assert (number_of(first.image), number_of(second.image)) == (8, 16)
    # Reconnecting does nothing here, and so always succeeds.
    assert len(second.warnings) == 1
    assert "no answer" in second.warnings[0]
    assert caplog.messages == ["door was lost: no answer; connecting again"]
    assert second.file == "door"


def test_closing_ends_the_wait_for_the_next_question() -> None:
    live = LiveVideo("door", lambda: None, Snapshots(lambda: numbered(0), 1e6), None, Patience())
    frames = live.frames()
    next(frames)
    live.close()
    assert next(frames, None) is None


def test_every_and_fps_are_one_setting() -> None:
    assert StreamOptions(every=4).fps == 0.25
    assert replace(StreamOptions(every=3), live=True).fps == 1 / 3
    with pytest.raises(ConfigError, match="same thing"):
        StreamOptions(every=4, fps=1)
    for every in (0, -1, math.nan, math.inf, "1"):
        with pytest.raises(ConfigError, match="every"):
            StreamOptions(every=every)


def test_folders_are_in_natural_order_and_frames_name_their_files(tmp_path: Path) -> None:
    for number in range(1, 13):
        Image.fromarray(numbered(8 * number)).save(tmp_path / f"frame_{number}.png")
    frames = list(open_source(tmp_path, StreamOptions()).frames())
    assert [number_of(frame.image) // 8 for frame in frames] == list(range(1, 13))
    assert [frame.file for frame in frames] == [str(tmp_path / f"frame_{n}.png") for n in range(1, 13)]
    assert {frame.time for frame in frames} == {None}
    for name in ("2.png", "10.png", "a10b2.png", "a10b10.png", "a9.png"):
        Image.fromarray(numbered(0)).save(tmp_path / name)
    names = [Path(path).name for path in find_folder(tmp_path)]
    assert names[:5] == ["2.png", "10.png", "a9.png", "a10b2.png", "a10b10.png"]


def test_frames_of_a_video_name_it_and_live_ones_tell_the_time_of_day(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(0)] * 2)
    assert {(frame.file, frame.time) for frame in open_source(path, StreamOptions()).frames()} == {(str(path), None)}
    times = iter(["2026-11-28T09:05:00.000Z", "2026-11-28T09:05:01.000Z"])
    live = LivePictures("mine", [numbered(0)] * 2, "rgb", None, None, now=lambda: next(times))
    assert [frame.time for frame in live.frames()] == ["2026-11-28T09:05:00.000Z", "2026-11-28T09:05:01.000Z"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", utc_time())
    assert abs(datetime.fromisoformat(utc_time()) - datetime.now(UTC)) < timedelta(seconds=5)
