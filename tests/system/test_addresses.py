"""Passwords stay out of everything that is shown, whatever characters they hold."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.cli import main
from engine.config import ImageLimits
from engine.errors import EngineError, ImageError, SourceError
from engine.image.load import load_image
from engine.jobs.fetch import Fetcher, FetchLimits
from engine.stream.live import LiveVideo, Patience
from engine.stream.opening import StreamOptions, open_source
from engine.stream.target import url_target
from engine.stream.video import VideoInput
from engine.system.addresses import hide_password, hide_passwords

# What no other part of an address holds.
SECRET = "S3CR3T"
_ANY = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)
_SPECIAL = st.text("/?#@:\\ '\"<>%&=.[]~ab1", max_size=6)
_SECRETS = st.tuples(_SPECIAL | _ANY, _SPECIAL | _ANY).map(SECRET.join)
_QUERIES = st.lists(_SECRETS.map("pwd={}".format), max_size=2).map("&".join)
# Nothing that would make the host unclear: then everything is hidden, which other tests look at.
_PLACES = st.sampled_from(["camera", "camera:554", "10.0.0.7:8080", "[::1]:80", ""])
_PATHS = st.sampled_from(["", "/", "/live", "/a/b.jpg", "/live@1"])


@st.composite
def addresses(draw: st.DrawFn) -> str:
    """Addresses whose password, query and fragment hold ``SECRET``."""
    scheme = draw(st.sampled_from(["rtsp", "http", "https", "RTMP", "srt"]))
    user = draw(st.sampled_from(["", "user", "user@firm"]))
    query, fragment = draw(_QUERIES), draw(st.none() | _SECRETS)
    tail = (f"?{query}" if query else "") + (f"#{fragment}" if fragment else "")
    return f"{scheme}://{user}:{draw(_SECRETS)}@{draw(_PLACES)}{draw(_PATHS)}{tail}"


@given(addresses())
@settings(max_examples=1000, deadline=None)
@example(f"rtsp://user:pa/{SECRET}@cam/live")
@example(f"rtsp://user:pa?{SECRET}@cam/live")
@example(f"rtsp://user:pa#{SECRET}@cam/live")
@example(f"rtsp://user:p@{SECRET}/x@cam/live")
@example(f"http://cam:80?mail=a@b&pwd={SECRET}")
def test_no_part_of_a_password_is_shown(address: str) -> None:
    assert SECRET not in hide_password(address)
    assert SECRET not in hide_passwords(f"cannot open '{address}': {address}", [address])
    # As a path, which loses a slash.
    assert SECRET not in hide_password(address.replace("://", ":/", 1))


@given(st.text(max_size=60))
@settings(deadline=None)
def test_it_takes_any_text(text: str) -> None:
    for shown in (hide_password(text), hide_passwords(text), hide_passwords(f"http://{text}")):
        assert isinstance(shown, str)
    # What was hidden once stays as it is.
    assert hide_password(hide_password(text)) == hide_password(text)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://camera/live", "rtsp://camera/live"),
        ("rtsp://user:secret@camera:554/live", "rtsp://camera:554/live"),
        ("http://token@camera/live.jpg", "http://camera/live.jpg"),
        ("http://camera/@home/live.jpg", "http://camera/@home/live.jpg"),
        ("http://camera?mail=a@b&pwd=secret", "http://camera?..."),
        ("http://camera/live#token=1", "http://camera/live?..."),
        ("rtsp://user:secret@camera:554/live@1", "rtsp://...@1"),
        ("http://camera:80/live?mail=a@b", "http://..."),
        ("http:/user:secret@camera/a.jpg", "http:/camera/a.jpg"),
        ("C:/pictures/a@b.jpg", "C:/pictures/a@b.jpg"),
        ("photo.jpg", "photo.jpg"),
        ("", ""),
    ],
)
def test_what_is_left(address: str, shown: str) -> None:
    assert hide_password(address) == shown


HOSTILE = [
    "user:{}@127.0.0.1:9/live?pwd={}",
    "user:pa/{}@127.0.0.1:9/x#{}",
    "user:a'{}\"b@127.0.0.1:9/a b?{}",
    "user:[{}\u2100@127.0.0.1:9/?{}",
]


def _everything(error: BaseException) -> Iterator[str]:
    """All that can be shown of an error, with what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield from (str(seen), repr(seen), str(getattr(seen, "filename", "")), repr(seen.args))
        seen = seen.__cause__ or seen.__context__
    yield "".join(traceback.format_exception(error))


@pytest.mark.parametrize("rest", HOSTILE)
@pytest.mark.parametrize("scheme", ["rtsp", "http", "ftp", "tcp"])
def test_errors_of_sources_and_what_they_came_from(scheme: str, rest: str) -> None:
    address = f"{scheme}://{rest.format(SECRET, SECRET)}"
    with pytest.raises(SourceError) as caught:
        open_source(address, StreamOptions(patience=Patience(timeout=2)))
    assert not [text for text in _everything(caught.value) if SECRET in text]


@pytest.mark.parametrize("rest", HOSTILE)
def test_errors_of_pictures(rest: str) -> None:
    address = f"http://{rest.format(SECRET, SECRET)}"
    for source in (address, Path(address)):
        with pytest.raises(ImageError, match="is a URL, which is not fetched") as caught:
            load_image(source)
        assert not [text for text in _everything(caught.value) if SECRET in text]


@pytest.mark.parametrize("rest", HOSTILE)
def test_errors_of_pictures_by_address(rest: str) -> None:
    pytest.importorskip("aiohttp", reason="pictures by address need the extra cloud")
    with Fetcher(FetchLimits(allow_private=True, retries=0, timeout=5)) as fetcher:
        for scheme in ("http", "ftp", "file"):
            with pytest.raises(ImageError) as caught:
                fetcher.read(f"{scheme}://{rest.format(SECRET, SECRET)}")
            assert not [text for text in _everything(caught.value) if SECRET in text]


def test_targets_are_shown_without_their_address() -> None:
    assert SECRET not in repr(url_target(f"rtsp://user:{SECRET}@camera/live"))


@pytest.mark.parametrize("lost", ["a read", "a connection"])
def test_streams_that_are_lost(lost: str, caplog: pytest.LogCaptureFixture) -> None:
    """Through the log and the last error, where FFmpeg's own error holds the address."""
    target = url_target(f"rtsp://user:{SECRET}@127.0.0.1:9/live?{SECRET}")

    class Lost:
        def pictures(self, check: Any) -> Iterator[Any]:
            VideoInput(target, 1.0, ImageLimits())
            yield

        def close(self) -> None:
            pass

    def connect() -> Any:
        return VideoInput(target, 1.0, ImageLimits()) if lost == "a connection" else Lost()

    patience = Patience(timeout=1.0, give_up=0.05, first_delay=0.01)
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError) as caught:
        list(LiveVideo(target.name, connect, Lost(), None, patience).frames())
    assert "was lost" in caplog.text
    assert SECRET not in caplog.text
    assert not [text for text in _everything(caught.value) if SECRET in text]


@pytest.mark.parametrize(
    "arguments",
    [
        ["count", "http://user:{}@camera/a.jpg?{}"],
        ["count", "a.jpg", "--csv", "http://user:{}@camera/a.csv?{}"],
        ["stream", "rtsp://user:{}@127.0.0.1:9/live?{}", "--timeout", "1"],
        ["stream", "0", "rtsp://user:{}@camera/live?{}"],
        ["stream", "0", "--fps", "rtsp://user:{}@camera/live?{}"],
        ["rtsp://user:{}@camera/live?{}"],
    ],
    ids=str,
)
def test_the_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    class Counter:
        def close(self) -> None:
            pass

        def stream(self, source: Any, **options: Any) -> Any:
            return open_source(source, StreamOptions(patience=Patience(timeout=1.0)))

    try:
        status = main([x.format(SECRET, SECRET) for x in arguments], lambda **_: Counter())
    except SystemExit as error:
        status = int(error.code or 0)
    assert status != 0
    output = capsys.readouterr()
    assert SECRET not in output.out + output.err
    assert output.err


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What another library says of an address, it does not repeat."""
    from engine.cli import doctor

    def broken(backend: str) -> str:
        raise RuntimeError(f"proxy http://user:{SECRET}@proxy:3128 refused")

    monkeypatch.setattr(doctor, "_try_count", broken)
    for as_json in (False, True):
        assert doctor.run(as_json) == 1
        output = capsys.readouterr()
        assert "proxy:3128" in output.out
        assert SECRET not in output.out
