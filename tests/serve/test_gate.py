"""Who may ask: tokens, the sign-in page, and other sites."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from serving import Asker

from engine.errors import ConfigError
from engine.serve.settings import ServeSettings, read_token
from engine.serve.zone_file import ZoneFile

TOKEN = "a token of enough letters"


@pytest.fixture
def guarded(serve: Any) -> Asker:
    asker: Asker = serve(None, ServeSettings(host="0.0.0.0", port=0, token=TOKEN, names=("count.example.org",)))
    return Asker(f"http://127.0.0.1:{asker.port}/")


@pytest.fixture
def local(serve: Any) -> Asker:
    asker: Asker = serve(None)
    return asker


@pytest.mark.parametrize("path", ["/v1/model", "/v1/streams", "/metrics", "/openapi.json", "/page/app.js", "/nothing"])
def test_everything_needs_the_token(guarded: Asker, path: str) -> None:
    refused = guarded(path)
    assert refused.status == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in refused.json()["detail"]
    expected = 404 if path == "/nothing" else 200
    assert guarded(path, Authorization=f"Bearer {TOKEN}").status == expected
    for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer \xe9"):
        assert guarded(path, Authorization=wrong).status == 401
    for cookie in ("crowd_session=", "crowd_session=9999999999.00", f"crowd_session={TOKEN}", "=;;", "a" * 5000):
        assert guarded(path, Cookie=cookie).status == 401


def test_a_count_needs_the_token(guarded: Asker) -> None:
    assert guarded.count(b"x" * 1000).status == 401
    assert guarded.count(b"x" * 1000, Authorization=f"Bearer {TOKEN}").status == 404, "no counter here"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/signin", "/page/style.css", "/page/icon.svg"])
def test_what_is_open(guarded: Asker, path: str) -> None:
    assert guarded(path).status == 200


def test_the_way_in_of_a_browser(guarded: Asker) -> None:
    lost = guarded("/", Accept="text/html,*/*")
    assert (lost.status, lost.headers["location"]) == (303, "/signin")
    page = guarded("/signin").body.decode()
    assert 'action="signin"' in page
    assert TOKEN not in page
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    wrong = guarded("/signin", urlencode({"token": "not it"}).encode(), **form)
    assert wrong.headers["location"] == "/signin#wrong"
    assert "set-cookie" not in wrong.headers
    for body in (b"", b"token=" + b"x" * 100_000, b"&" * 4000, b"\xff=\xfe"):
        assert guarded("/signin", body, **form).headers["location"] == "/signin#wrong"
    right = guarded("/signin", urlencode({"token": TOKEN}).encode(), **form)
    assert (right.status, right.headers["location"]) == (303, "/")
    cookie, *attributes = (part.strip() for part in right.headers["set-cookie"].split(";"))
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=2592000"} <= set(attributes)
    assert "Secure" not in attributes, "the server has no TLS here"
    assert "token" not in cookie
    assert guarded("/v1/model", Cookie=cookie).status == 200
    until, signature = cookie.split("=")[1].split(".")
    for forged in (f"{int(until) + 1}.{signature}", f"1.{signature}", f"{until}.{signature[:-1]}0"):
        if forged != f"{until}.{signature}":
            assert guarded("/v1/model", Cookie=f"crowd_session={forged}").status == 401


def test_sessions_end(guarded: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    monkeypatch.setattr("engine.serve.gate._SESSION_SECONDS", -1)
    cookie = guarded("/signin", urlencode({"token": TOKEN}).encode(), **form).headers["set-cookie"].split(";")[0]
    assert guarded("/v1/model", Cookie=cookie).status == 401


@pytest.mark.parametrize("host", ["evil.example", "crowd.localhost", "localhost.evil.example", "192.0.2.1", "", "[::1"])
def test_other_names_for_this_machine_are_refused(local: Asker, host: str) -> None:
    reply = local("/v1/model", Host=host)
    assert reply.status == 421
    assert reply.json()["kind"] == "HostError"
    assert local("/healthz", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:80"])
def test_names_of_the_loopback_address(local: Asker, host: str) -> None:
    assert local("/v1/model", Host=host).status == 200


def test_names_of_a_server_for_others(guarded: Asker) -> None:
    for host in ("count.example.org", "192.0.2.1:8000", "localhost"):
        assert guarded("/v1/model", Host=host, Authorization=f"Bearer {TOKEN}").status == 200
    assert guarded("/v1/model", Host="evil.example", Authorization=f"Bearer {TOKEN}").status == 421


def test_two_hosts_are_none(local: Asker) -> None:
    with local.connect(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n") as connection:
        assert connection.recv(4096).split(b" ")[1] in (b"400", b"421")
    with local.connect(b"GET / HTTP/1.0\r\n\r\n") as connection:
        assert connection.recv(4096).split(b" ")[1] in (b"400", b"421")


def test_other_sites_are_refused(local: Asker) -> None:
    own = f"localhost:{local.port}"
    for origin in (
        "http://evil.example",
        "null",
        "",
        "http://[::1",
        own,
        f"http://localhost:{local.port + 1}",
        "http://localhost",
    ):
        reply = local("/v1/count", b"x", Host=own, Origin=origin)
        assert reply.status == 403
        assert reply.json()["kind"] == "OriginError"
        assert not origin or f"a page of {origin!r} asked for {own!r}; a proxy has to" in reply.json()["detail"]
        assert "access-control-allow-origin" not in reply.headers
    assert local("/v1/model", Host=own, Origin=f"http://{own}").status == 200
    # What has no origin: pictures and links.
    assert local("/v1/streams", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert local("/v1/streams", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="no-cors").status == 403
    assert local("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    assert local("/v1/streams", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors").status == 200


def test_no_header_makes_it_fail(guarded: Asker, caplog: pytest.LogCaptureFixture) -> None:
    random = Random(1)
    parts = [
        "[",
        "]",
        "::1",
        "//",
        "@",
        "%",
        "%00",
        ";",
        "=",
        '"',
        "\\",
        ",",
        "q=nan",
        "q=",
        "*/*",
        "bearer ",
        "\xe9",
        ".",
    ]
    parts += [f"localhost:{guarded.port}", "http://", "crowd_session", "9" * 30, "boundary", "multipart/form-data"]
    for _ in range(300):
        names = random.sample(["Host", "Origin", "Cookie", "Authorization", "Accept", "Content_Type", "Range"], 3)
        headers = {name: "".join(random.choices(parts, k=random.randrange(1, 6))).strip() for name in names}
        path, body = random.choice([("/v1/model", None), ("/", None), ("/signin", b"&%=;" * 9), ("/v1/count", b"--x")])
        assert guarded(path, body, **headers).status < 500, headers
    assert caplog.text == ""


def test_no_site_may_frame_or_read_it(local: Asker) -> None:
    for path in ("/", "/v1/model", "/page/app.js", "/nothing", "/signin"):
        headers = local(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_the_page_loads_nothing_from_elsewhere(local: Asker) -> None:
    policy = local("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/..\\app.py",
        "//etc/passwd", "/../../etc/passwd", "/page/%00", "/page/", "/page", "/v1/streams/..%2f..%2fx",
        "/v1/streams/%ff/frame.jpg",
    ],
)  # fmt: skip
def test_paths_lead_nowhere_else(local: Asker, path: str) -> None:
    reply = local(path)
    assert reply.status in (404, 307), reply.body
    assert b"root:" not in reply.body
    assert b"import" not in reply.body


@pytest.mark.parametrize(
    "head",
    [
        b"\x00\xff nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
        b"POST /v1/count HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA\r\n: b\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_heads_that_are_none(local: Asker, head: bytes) -> None:
    try:
        with local.connect(head) as connection:
            assert connection.recv(4096).split(b" ")[1][:1] == b"4"
    except ConnectionError:
        # Cut off while it was still sending.
        pass
    assert local("/healthz").status == 200


def test_a_proxy_cannot_be_feigned(local: Asker) -> None:
    reply = local(
        "/v1/model", X_Forwarded_Host="evil.example", Forwarded="host=evil.example", X_Original_URL="/metrics"
    )
    assert reply.status == 200
    assert b"counts" in reply.body


def test_settings(tmp_path: Any) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigError, match="can be reached from other machines: set CROWD_TOKEN"):
            ServeSettings(host=host)
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        assert ServeSettings(host=host).is_loopback
    for token in ("short", "x" * 15, "x" * 20 + "\n", "é" * 20):
        with pytest.raises(ConfigError, match="16 printable ASCII"):
            ServeSettings(token=token)
    with pytest.raises(ConfigError, match="both --tls-cert and --tls-key"):
        ServeSettings(tls_cert=tmp_path)
    with pytest.raises(ConfigError, match="expected a PEM file"):
        ServeSettings(tls_cert=tmp_path / "a.pem", tls_key=tmp_path / "b.pem")
    for name, value in {"port": 65536, "waiting": 0, "timeout": 0, "max_bytes": 1, "max_pixels": 0}.items():
        with pytest.raises(ConfigError):
            ServeSettings(**{name: value})
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token") == TOKEN
    with pytest.raises(ConfigError, match="cannot read the token"):
        read_token(tmp_path / "none")
    assert TOKEN not in repr(ServeSettings(token=TOKEN))


def test_head_is_get_without_a_body(guarded: Asker) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    paths = [path for path, ways in guarded("/openapi.json", **known).json()["paths"].items() if "get" in ways]
    assert {"/healthz", "/readyz", "/metrics", "/v1/model"} <= set(paths)
    # A count is no GET, and the last one is nothing.
    for path in (*paths, "/", "/docs", "/signin", "/favicon.ico", "/page/app.js", "/v1/count", "/nothing"):
        for headers in (known, {}):
            whole, head = guarded(path, **headers), guarded(path, method="HEAD", **headers)
            assert head.body == b""
            assert whole.status == head.status, path
            # The numbers of /metrics change from one answer to the next.
            changing = {"date"} | ({"content-length"} if path == "/metrics" else set())
            assert [x for x in whole.headers.items() if x[0] not in changing] == [
                x for x in head.headers.items() if x[0] not in changing
            ]
    assert guarded("/healthz", method="HEAD").status == 200
    assert guarded("/v1/count", method="HEAD", **known).status == 405


def test_a_secret_path_is_the_only_one(serve: Any, tmp_path: Path) -> None:
    path, layout = tmp_path / "zones.json", b'{"zones": {"gate": [[0, 0], [8, 0], [8, 6]]}}'
    file = ZoneFile(path, "a", np.zeros((6, 8, 3), np.uint8))
    ask = serve(None, ServeSettings(port=0, secret_path="s3cret"), zone_file=file)
    assert ask.url.endswith("/s3cret/")
    others = Asker(f"http://127.0.0.1:{ask.port}/")
    for guess in ("", "/s3cre", "/s3cret0", "/S3cret", "//s3cret", "/x/s3cret", "/s3cret/../x", "/%FF", "/%C3%A9"):
        for known in ("/", "/v1/zone-file", "/v1/model", "/page/app.js", "/metrics", "/openapi.json", "/signin"):
            assert others(guess + known).status == 404
        assert others(f"{guess}/v1/zone-file", layout, method="PUT").status == 404
    assert others("/s3cret").status == 404
    assert not path.exists()
    for known in ("/", "/v1/zone-file", "/page/app.js", "/docs", "/healthz", "/favicon.ico"):
        assert ask(known).status in (200, 307)
    assert ask("/v1/zone-file", layout, method="PUT").status == 200
    assert path.read_bytes() == layout
    # Where it lies is no way round the other checks.
    assert ask("/v1/zone-file", layout, method="PUT", Origin="http://evil.example").status == 403
    assert ask("/", Host="evil.example").status == 421
