"""``crowd count`` of an address, with the rules of manifests."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from stand_in_counter import crowd


class Server(BaseHTTPRequestHandler):
    """Answers with as many bytes as the name of the file says."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        name = Path(self.path.partition("?")[0]).stem
        if not name.isdecimal():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", name)
        self.end_headers()
        self.wfile.write(b"x" * int(name))


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_addresses_are_counted_beside_files(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "9.jpg").write_bytes(b"x" * 9)
    names = [f"{address}/7.jpg", str(tmp_path / "9.jpg"), f"{address}/5.png?size=1"]
    assert crowd("count", *names, "--allow-private", "--csv", "--save", tmp_path / "out") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["count"]) for row in rows] == list(zip(names, "795", strict=True))
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.jpg")) == ["5.jpg", "7.jpg", "9.jpg"]


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("/7.jpg", (), "127.0.0.1 is not in a public network; with --allow-private"),
        ("/7.jpg", ("--allow-private", "--max-bytes", "6"), "6"),
        ("/gone.jpg?key=secret", ("--allow-private",), "404"),
    ],
)
def test_an_address_that_cannot_be_read_says_why(address: str, path: str, options, reason: str, capsys) -> None:
    assert crowd("count", address + path, *options) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert "secret" not in said
