"""What is refused, and what waits: limits, queues, and clients that go away."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import Asker, GatedCounter, Reply, until

from engine import CrowdCounter
from engine.serve.problems import problem, without_paths
from engine.serve.settings import ServeSettings

HEAD = "POST /v1/count HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"


def encoded(width: int, height: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def is_problem(reply: Reply, status: int, kind: str, *words: str) -> bool:
    problem = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.status == problem["status"] == status
    assert problem["kind"] == kind
    return all(word in problem["detail"] for word in words)


def send_slowly(connection: Any) -> None:
    for _ in range(200):
        connection.sendall(b"a")
        time.sleep(0.05)


def answer_of(connection: Any) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["empty"]),
        (b"nonsense", ["no picture", "convert it to one of JPEG"]),
        (b'{"image": "http://127.0.0.1/a.jpg"}', ["no picture"]),
        (b"\xff\xd8\xff damaged", ["damaged or cut"]),
        (encoded(2001, 2000), ["2001x2000", "limit of 4000000"]),
    ],
)
def test_pictures_that_cannot_be_read(shared: Asker, body: bytes, words: list[str]) -> None:
    assert is_problem(shared.count(body), 422, "ImageError", *words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([("steps", "x")], ["steps must be a whole number"]),
        ([("steps", "1001")], ["at most 64"]),
        ([("steps", "30"), ("samples", "30")], ["30 x 30"]),
        ([("steps", "0")], ["steps"]),
        ([("samples", "1"), ("samples", "2")], ["more than one field 'samples'"]),
        ([("colour", "red")], ["unknown field 'colour'"]),
        ([("zones", "[1")], ["not JSON"]),
        ([("zones", "[" * 100_000)], ["not JSON"]),
        ([("zones", "/etc/passwd")], ["not JSON"]),
        ([("zones", '{"zones": {"a": [[0, 0], [9, 9]]}}')], ["zone 'a' must be 3 to"]),
        ([("zones", '{"zones": {"a": [], "a": []}}')], ["'a' is there twice"]),
        ([("zone", "a=0,0 9,0 9,9"), ("zone", "a=0,0 9,0 9,8")], ["given twice"]),
        ([("zone", "a=0,0 9,0 9,9"), ("line", "a=0,0 9,0")], ["zone and of a line"]),
        ([("zones", '{"images": [{"id": []}], "annotations": []}')], ["images[0].id must be a number or text"]),
        (
            [("zones", '{"shapes": [{"label": "a", "points": [], "shape_type": "\\ud800"}], "imagePath": "a"}')],
            ["ud800"],
        ),
        ([("include", "secrets")], ["include must be one of maps, picture"]),
    ],
)
def test_parameters_that_are_not_valid(
    shared: Asker, picture: bytes, fields: list[tuple[str, str]], words: list[str]
) -> None:
    assert is_problem(shared.form(picture, fields), 400, "ConfigError", *words)


def test_parameters_of_the_address_that_are_not_valid(shared: Asker, picture: bytes) -> None:
    assert is_problem(shared.count(picture, "?steps=x"), 400, "ConfigError", "steps")
    assert is_problem(shared.count(picture, "?samples=0"), 400, "ConfigError", "samples")
    assert is_problem(shared.count(picture, "?zone=a"), 400, "ConfigError", "NAME=x,y")
    assert is_problem(shared.count(picture, "?stepz=2"), 400, "ConfigError", "unknown field 'stepz'", "steps")
    assert is_problem(shared.count(picture, "?zones={}&zones={}"), 400, "ConfigError", "more than one field 'zones'")


def test_many_zones_are_refused_and_hold_nobody_up(shared: Asker, picture: bytes) -> None:
    shapes = {str(i): [[0, 0], [9, 0], [9, 9]] for i in range(24_000)}
    reply = shared.form(picture, [("zones", json.dumps({"zones": shapes}))])
    assert is_problem(reply, 400, "ConfigError", "24000 zones and lines; at most 1000")
    reply = shared.form(picture, [("zone", f"{i}=" + "1,1 " * 10_000) for i in range(50)])
    assert is_problem(reply, 413, "BodyError", "fields beside the picture")


@pytest.mark.parametrize("charset", ["undefined", "idna", "hex", "punycode", "utf-7", "nothing", "\xe9"])
def test_forms_in_odd_encodings(shared: Asker, charset: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="\xff\xc3"; filename="\xff"\r\n\r\n\xff..\r\n--x--\r\n'
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    assert is_problem(shared("/v1/count", part, Content_Type=kind), 400, "BodyError")


def test_forms_without_a_picture(shared: Asker) -> None:
    assert is_problem(shared.form(None, [("image", "text")]), 400, "BodyError", 'no file "image"')
    reply = shared("/v1/count", b"no form", Content_Type="multipart/form-data; boundary=x")
    assert is_problem(reply, 400, "BodyError")
    reply = shared("/v1/count", b"no form", Content_Type="multipart/form-data")
    assert is_problem(reply, 400, "BodyError")
    parts = (
        f'--x\r\nContent-Disposition: form-data; name="{n}"; filename="a"\r\n\r\n{{}}\r\n' for n in ("image", "zones")
    )
    reply = shared("/v1/count", f"{''.join(parts)}--x--".encode(), Content_Type="multipart/form-data; boundary=x")
    assert is_problem(reply, 400, "BodyError", "its one file is the image, other fields are text")


def test_large_bodies(shared: Asker) -> None:
    assert is_problem(shared.count(b"x" * ((4 << 20) + 1)), 413, "BodyError", "limit of 4 MiB")
    assert is_problem(shared.form(b"x" * (4 << 20), []), 413, "BodyError", "limit of 4 MiB")
    # One that does not say how large it is.
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with shared.connect(f"{HEAD}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()) as connection:
        for _ in range(100):
            connection.sendall(chunk)
        connection.sendall(b"0\r\n\r\n")
        assert b" 413 " in answer_of(connection)


def test_bodies_that_do_not_come(serve: Any, counter: CrowdCounter) -> None:
    ask = serve(counter, ServeSettings(port=0, timeout=0.5))
    with ask.connect(f"{HEAD}Content-Length: 1000\r\nConnection: close\r\n\r\nslow".encode()) as connection:
        answer = answer_of(connection)
        assert b" 408 " in answer
        assert b"did not come in 0.5 s" in answer


def _turns(ask: Asker) -> list[str]:
    lines = ask("/metrics").body.decode().splitlines()
    return [line for line in lines if line.startswith(("crowd_waiting_requests", "crowd_running_counts"))]


def test_a_bounded_number_waits(serve: Any, counter: CrowdCounter, picture: bytes) -> None:
    gated = GatedCounter(counter)
    ask = serve(gated, ServeSettings(port=0, waiting=3))
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(ask.count, picture) for _ in range(4)]
        until(lambda: ask("/readyz").status == 503)
        refused = ask.count(picture)
        assert is_problem(refused, 503, "BusyError", "4 requests")
        assert refused.headers["retry-after"] == "1"
        # Each has its place from its first byte on, and waits once its body is there.
        until(lambda: _turns(ask) == ["crowd_waiting_requests 3.0", "crowd_running_counts 1.0"])
        gated.open()
        answers = [reply.result().json()["count"] for reply in replies]
    assert answers == [counter.count(picture).count] * 4
    assert ask("/readyz").status == 200
    assert ask.count(picture).status == 200


def test_turns_that_do_not_come(serve: Any, counter: CrowdCounter, picture: bytes) -> None:
    gated = GatedCounter(counter)
    ask = serve(gated, ServeSettings(port=0, waiting=3, timeout=0.5))
    with ThreadPoolExecutor(3) as pool:
        replies = [pool.submit(ask.count, picture) for _ in range(3)]
        # One is counted, one is next; the third has no turn.
        until(lambda: any(reply.done() for reply in replies))
        (refused,) = [reply.result() for reply in replies if reply.done()]
        assert is_problem(refused, 503, "BusyError", "no turn came in 0.5 s")
        gated.open()


def test_who_goes_away_frees_the_place(serve: Any, counter: CrowdCounter, picture: bytes) -> None:
    gated = GatedCounter(counter)
    ask = serve(gated, ServeSettings(port=0, waiting=8))
    request = f"{HEAD}Content-Length: {len(picture)}\r\n\r\n".encode() + picture
    connections = [ask.connect(request) for _ in range(9)]
    until(lambda: ask("/readyz").status == 503)
    for connection in connections:
        connection.close()
    # The one that is counted keeps its turn; the request that waited is gone.
    until(lambda: ask("/readyz").status == 200)
    until(lambda: _turns(ask) == ["crowd_waiting_requests 0.0", "crowd_running_counts 1.0"])
    gated.open()
    assert ask.count(picture).status == 200
    # The one that ran, the one that was handed on already, and the last.
    assert gated.started <= 3
    assert 'crowd_errors_total{kind="ClientGone"} 9.0' in ask("/metrics").body.decode()


def test_the_number_of_those_that_wait(serve: Any, counter: CrowdCounter, picture: bytes) -> None:
    ask = serve(gated := GatedCounter(counter))
    with ThreadPoolExecutor(4) as pool:
        replies = [pool.submit(ask.count, picture) for _ in range(4)]
        until(lambda: "crowd_waiting_requests 3.0" in ask("/metrics").body.decode())
        gated.open()
        assert [reply.result().status for reply in replies] == [200] * 4
    until(lambda: "crowd_running_counts 0.0" in ask("/metrics").body.decode())
    assert "crowd_waiting_requests 0.0" in ask("/metrics").body.decode()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (r"it begins with b'\x12\x19\x80hello'", None),
        (r"it begins with b'\\a\\b\x80'", None),
        (r"C:\Users\me\x.onnx is damaged", "x.onnx is damaged"),
        (r"'C:\\Users\\me\\x.onnx' is damaged", "'x.onnx' is damaged"),
        (r"cannot read \\server\share\x.onnx: gone", "cannot read x.onnx: gone"),
        (r"cannot read '\\\\server\\share\\x.onnx': gone", "cannot read 'x.onnx': gone"),
        ("D:/models/x.onnx, /srv/models/y.onnx", "x.onnx, y.onnx"),
        ("https://server/a/b and 3/4/5", None),
    ],
)
def test_paths_are_left_out_and_nothing_else(said: str, told: str | None) -> None:
    assert without_paths(said) == (told or said)


def test_what_no_text_can_hold_is_told_all_the_same() -> None:
    assert json.loads(problem(400, "a \ud800 b", "ConfigError").body)["detail"] == r"a \ud800 b"


def test_errors_of_the_engine_tell_no_paths(serve: Any, counter: CrowdCounter, picture: bytes) -> None:
    class Failing(GatedCounter):
        def count(self, image: Any, **options: Any) -> Any:
            from engine.errors import BackendError

            raise BackendError("/srv/secret/models/encoder.onnx: the device is gone; start again")

    ask = serve(Failing(counter))
    reply = ask.count(picture)
    assert is_problem(reply, 500, "BackendError", "encoder.onnx: the device is gone")
    assert b"secret" not in reply.body


def test_defects_are_told_without_details(serve: Any, counter: CrowdCounter, picture: bytes) -> None:
    class Defect(GatedCounter):
        def count(self, image: Any, **options: Any) -> Any:
            raise KeyError("/srv/secret")

    ask = serve(Defect(counter))
    reply = ask.count(picture)
    assert is_problem(reply, 500, "Defect", "its log says why")
    assert b"secret" not in reply.body
    assert ask("/healthz").status == 200


def test_heads_that_do_not_come_are_cut(serve: Any, counter: CrowdCounter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.serve.server._HEAD", 0.4)
    ask = serve(counter)
    start = time.monotonic()
    connection = ask.connect(b"GET / HTTP/1.1\r\nHost: loc")
    # A byte now and then does not help.
    with connection, pytest.raises(OSError, match=r"reset|[Bb]roken"):
        send_slowly(connection)
    assert time.monotonic() - start < 60
    # One that is kept may rest longer than that.
    kept = HTTPConnection(ask.host, ask.port, timeout=60)
    kept.connect()
    # It is not opened a second time.
    kept.auto_open = 0
    for _ in range(2):
        kept.request("GET", "/healthz")
        assert kept.getresponse().read() == b"ok\n"
        time.sleep(0.6)
    kept.close()


def test_a_thousand_broken_pictures(shared: Asker, picture: bytes) -> None:
    rng = np.random.default_rng(0)
    statuses = []
    for _ in range(1000):
        data = np.frombuffer(picture, np.uint8).copy()
        data[rng.integers(0, 2000, 20)] = rng.integers(0, 256, 20)
        # Cut, so that none of them is counted: that would take minutes.
        statuses.append(shared.count(data[: rng.integers(1, 3000)].tobytes()).status)
    # What is left of a few is a whole picture of other pixels.
    assert set(statuses) <= {200, 422}
    assert statuses.count(422) > 950
    assert shared.count(picture).status == 200
    assert json.loads(shared("/v1/model").body)["counts"]
