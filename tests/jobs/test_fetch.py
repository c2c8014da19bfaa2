"""Pictures by address, from real servers on this machine."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cameras import PATIENCE
from stand_in_counter import crowd

from engine.errors import ConfigError, EngineError, ImageError
from engine.jobs import networks, sources
from engine.jobs.fetch import Fetcher, FetchLimits, is_address
from engine.jobs.row import Entry

DATA = bytes(range(256)) * 20


class _Handler(BaseHTTPRequestHandler):
    """Answers by the path; ``server.asked`` has every path that came."""

    server: Any

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, _, rest = self.path[1:].partition("/")
        if kind == "status":
            self._answer(int(rest), b"no")
        elif kind == "later":
            times = self.server.asked.count(self.path)
            self._answer(200 if times > int(rest) else 503, DATA)
        elif kind == "once":
            self._fail_once(rest)
        elif kind == "to":
            self._redirect(f"http://{rest}/data")
        elif kind == "hops":
            self._redirect(f"/hops/{int(rest) - 1}" if int(rest) > 1 else "/data")
        elif kind == "slow":
            self.server.released.wait(PATIENCE)
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            while not self.server.released.is_set():
                self.wfile.write(DATA)
        else:
            self._answer(200, DATA)

    def _fail_once(self, how: str) -> None:
        """The picture, but the first time a status, or a connection that is closed: "close", "cut" within the body."""
        if self.server.asked.count(self.path) > 1:
            self._answer(200, DATA)
        elif how.isdecimal():
            self._answer(int(how), b"no")
        elif how == "cut":
            self._answer(200, DATA, len(DATA) + 1)

    def _redirect(self, address: str) -> None:
        self.send_response(302)
        self.send_header("Location", address)
        self.end_headers()

    def _answer(self, status: int, data: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("0.0.0.0", 0), _Handler) as server:
        server.asked, server.released = [], threading.Event()  # type: ignore[attr-defined]
        server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def fetch(address: str, **limits: Any) -> Any:
    with Fetcher(FetchLimits(**{"allow_private": True, "retries": 0, "timeout": PATIENCE, **limits})) as fetcher:
        return fetcher.read(address)


def test_addresses_and_paths(tmp_path: Path) -> None:
    assert [is_address(x) for x in ("https://a/b", "s3://a/b", "gs://a", "file:///a", "a/b", "a:b", "-", "")] == [
        *[True] * 4,
        *[False] * 4,
    ]
    assert fetch("photos/a.jpg") == "photos/a.jpg"
    assert fetch("file:///photos/a%20b.jpg") == "/photos/a b.jpg"
    for address, message in {
        "ftp://host/a.jpg": "ftp:// is not read; expected a path, or an address of http, https, s3, gs",
        "file://host/a.jpg": "another machine",
        "": "no address here",
    }.items():
        with pytest.raises(ImageError, match=message):
            fetch(address)


def test_http(server: Any) -> None:
    assert fetch(f"{server.url}/data") == DATA
    assert fetch(f"{server.url}/to/127.0.0.1:{server.server_port}") == DATA


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_status_is_told(server: Any, status: int) -> None:
    with pytest.raises(ImageError, match=f"cannot be read: HTTP status {status}"):
        fetch(f"{server.url}/status/{status}")


def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(server: Any) -> None:
    start = time.monotonic()
    assert fetch(f"{server.url}/later/2", retries=2) == DATA
    assert time.monotonic() - start > 3
    assert len(server.asked) == 3
    for number, status in enumerate((400, 404, 451), 4):
        with pytest.raises(ImageError, match=str(status)):
            fetch(f"{server.url}/status/{status}", retries=5)
        assert len(server.asked) == number


@pytest.mark.parametrize("how", ["408", "429", "500", "501", "503", "520", "599", "close", "cut"])
def test_every_failure_that_may_pass_is_tried_again(server: Any, how: str) -> None:
    assert fetch(f"{server.url}/once/{how}", retries=1) == DATA
    assert server.asked == [f"/once/{how}"] * 2


def test_five_redirections_are_followed_and_no_more(server: Any) -> None:
    assert fetch(f"{server.url}/hops/5") == DATA
    server.asked.clear()
    with pytest.raises(ImageError, match="cannot be read: TooManyRedirects: more than 5 redirections") as told:
        fetch(f"{server.url}/hops/6", retries=9)
    # What aiohttp raised, with the whole address in it, is not behind the error.
    assert told.value.__context__ is None
    assert server.asked == [f"/hops/{left}" for left in range(6, 0, -1)]


@pytest.mark.parametrize("path", ["data", "endless/"])
def test_more_than_the_limit_is_refused(server: Any, path: str) -> None:
    with pytest.raises(ImageError, match="more than 5119 bytes"):
        fetch(f"{server.url}/{path}", max_bytes=len(DATA) - 1)
    assert fetch(f"{server.url}/data", max_bytes=len(DATA)) == DATA


def test_a_server_that_does_not_answer(server: Any) -> None:
    with pytest.raises(ImageError, match=r"no answer within 0\.2 s"):
        fetch(f"{server.url}/slow/", timeout=0.2)


def test_closing_does_not_wait_for_a_server(server: Any) -> None:
    with Fetcher(FetchLimits(allow_private=True, timeout=10 * PATIENCE)) as fetcher:
        wait = fetcher.begin(f"{server.url}/slow/")
        while not server.asked:
            time.sleep(0.01)
        start = time.monotonic()
    assert time.monotonic() - start < PATIENCE
    with pytest.raises(ImageError, match="was ended"):
        wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"])
def test_private_networks_are_refused(server: Any, host: str) -> None:
    with pytest.raises(ImageError, match="is not in a public network; with --allow-private"):
        fetch(f"http://{host}:{server.server_port}/data", allow_private=False, retries=9)
    assert server.asked == []


def test_a_redirection_into_a_private_network_is_refused(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 stands for a public host, which leads to a private one."""
    monkeypatch.setattr(networks, "is_public", lambda address: address == "127.0.0.1")
    assert fetch(f"{server.url}/to/127.0.0.1:{server.server_port}", allow_private=False) == DATA
    server.asked.clear()
    with pytest.raises(ImageError, match=r"127\.0\.0\.2 is not in a public network"):
        fetch(f"{server.url}/to/127.0.0.2:{server.server_port}", allow_private=False, retries=9)
    assert server.asked == [f"/to/127.0.0.2:{server.server_port}"]


def test_proxies_of_the_environment_are_not_asked(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert fetch(f"{server.url}/data") == DATA


def test_addresses_are_read_ahead_and_no_further(server: Any) -> None:
    entries = [Entry(i, f"{server.url}/{i}") for i in range(20)]
    with Fetcher(FetchLimits(allow_private=True, at_once=4)) as fetcher:
        ahead = fetcher.read_ahead(entries)
        entry, wait = next(ahead)
        assert (entry.id, wait()) == (0, DATA)
        deadline = time.monotonic() + PATIENCE
        while len(server.asked) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert sorted(server.asked) == [f"/{i}" for i in range(5)]
        assert [wait() for _, wait in ahead] == [DATA] * 19


def test_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    cloud = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    cloud.start()
    try:
        url = "http://{}:{}".format(*cloud.get_host_and_port())
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="folder/a b.jpg", Body=DATA)
        assert fetch("s3://bucket/folder/a b.jpg") == DATA
        assert fetch("s3://bucket/folder/a b.jpg", max_bytes=len(DATA)) == DATA
        with pytest.raises(ImageError, match="more than 5119 bytes"):
            fetch("s3://bucket/folder/a b.jpg", max_bytes=len(DATA) - 1)
        for missing in ("s3://bucket/b.jpg", "s3://nobody/a.jpg"):
            with pytest.raises(ImageError, match="FileNotFoundError"):
                fetch(missing, retries=9)
        with pytest.raises(ImageError, match="is not in a public network"):
            fetch("s3://bucket/folder/a b.jpg", allow_private=False, retries=9)
        client.close()
    finally:
        cloud.stop()


def test_a_bucket_that_does_not_answer_is_asked_again(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*taken.getsockname()))
    waits: list[float] = []
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: waits.append(seconds) or sleep(0))
    with pytest.raises(ImageError, match="EndpointConnectionError"):
        fetch("s3://bucket/a.jpg", retries=2)
    assert [seconds for seconds in waits if seconds >= 1] == [1, 2]


def test_gs(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stands for Google's, as its emulators do."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    assert fetch("gs://bucket/folder/a.jpg") == DATA
    assert "bucket" in server.asked[0]
    with pytest.raises(ImageError, match="more than 5119 bytes"):
        fetch("gs://bucket/folder/a.jpg", max_bytes=len(DATA) - 1)
    asked = len(server.asked)
    # gcsfs itself tries again and again.
    with pytest.raises(ImageError):
        fetch("gs://bucket/folder/a.jpg", allow_private=False, timeout=3)
    assert len(server.asked) == asked


def test_a_manifest_of_addresses(server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The stand-in counts the bytes of a picture."""
    manifest = tmp_path / "m.txt"
    manifest.write_text(f"{server.url}/a.jpg\n{server.url}/status/404\n{server.url}/b.jpg\n")
    assert crowd("count", "--manifest", manifest, "--json", "--allow-private") == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["count"] for row in rows] == [len(DATA), None, len(DATA)]
    assert rows[1]["error"] == "it cannot be read: HTTP status 404 Not Found"
    assert crowd("count", "--manifest", manifest, "--csv", tmp_path / "t.csv") == 1
    assert (tmp_path / "t.csv").read_text().count("is not in a public network") == 3


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise ModuleNotFoundError("no", name="aiohttp")

    monkeypatch.setattr(sources, "_Web", missing)
    with pytest.raises(EngineError, match=r"https:// needs aiohttp: pip install 'crowd-engine\[cloud\]'"):
        fetch("https://example.org/a.jpg")


def test_passwords_in_addresses_are_not_told() -> None:
    with pytest.raises(ImageError, match="cannot be read") as told:
        fetch("http://user:secret@exa mple:port/a.jpg?pwd=secret")
    assert "secret" not in str(told.value)


def test_limits_are_positive() -> None:
    for options in ({"timeout": 0}, {"max_bytes": 0}, {"retries": -1}, {"at_once": 0}):
        with pytest.raises(ConfigError, match="positive"):
            FetchLimits(**options)  # type: ignore[arg-type]
