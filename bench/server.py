"""What serving costs: a request against the bare count, and pictures a second against ``count_batch``, in one run.

Usage: python bench/server.py [PICTURE] [--alternations 50] [--rounds 3] [--pictures 24]

The server runs in this process and counts with the same counter, so that both are measured under the same load; its
client shares the cores with it, and is in its figures. Where others use the machine too, the seconds of this process on
the cores say more than the clock. Needs the extra ``serve``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from engine import CrowdCounter
from engine.serve.app import create_app
from engine.serve.server import AppServer
from engine.serve.settings import ServeSettings

PICTURE = Path(__file__).parents[1] / "examples" / "pictures" / "images" / "pedestrians.jpg"


class Client:
    """Sends one picture again and again, on one connection."""

    def __init__(self, url: str, picture: bytes):
        address = urlsplit(url)
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=120)
        self._picture = picture

    def count(self) -> bytes:
        self._connection.request("POST", "/v1/count", self._picture)
        response = self._connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return body

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


@dataclass(frozen=True)
class Time:
    """Seconds on the clock, and seconds of this process on any core."""

    clock: float
    cpu: float


def timed(work: Callable[[], object]) -> Time:
    """How long ``work`` takes."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Time(time.perf_counter() - clock, time.process_time() - cpu)


def measure_request(counter: CrowdCounter, client: Client, picture: bytes, alternations: int) -> str:
    """Medians of a bare count, and of what a request takes longer than the count beside it."""
    pairs = [(timed(lambda: counter.count(picture)), timed(client.count)) for _ in range(alternations)]
    parts = []
    for clock in ("clock", "cpu"):
        bare = statistics.median(getattr(count, clock) for count, _ in pairs)
        extra = statistics.median(getattr(request, clock) - getattr(count, clock) for count, request in pairs)
        parts.append(f"count {1e3 * bare:.1f} ms, a request {1e3 * extra:+.1f} ms ({clock})")
    return "; ".join(parts)


def measure_throughput(counter: CrowdCounter, url: str, picture: bytes, pictures: int, rounds: int) -> str:
    """Pictures a second by ``count_batch``, and by as many clients as keep the counter busy."""
    clients = 2 * counter.parallel
    each = pictures // clients

    def serve() -> None:
        def ask(_: int) -> None:
            client = Client(url, picture)
            for _ in range(each):
                client.count()
            client.close()

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, range(clients)))

    times = [(timed(lambda: counter.count_batch([picture] * each * clients)), timed(serve)) for _ in range(rounds)]
    rates = [statistics.median(each * clients / side.clock for side in sides) for sides in zip(*times, strict=True)]
    ratios = [
        statistics.median(getattr(batch, clock) / getattr(served, clock) for batch, served in times)
        for clock in ("clock", "cpu")
    ]
    return (
        f"count_batch {rates[0]:.2f} pictures/s, server {rates[1]:.2f}: {ratios[0]:.0%} by the clock, "
        f"{ratios[1]:.0%} by the seconds of the cores"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What serving costs.")
    parser.add_argument("picture", nargs="?", type=Path, default=PICTURE)
    parser.add_argument("--alternations", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=24)
    options = parser.parse_args()
    picture, settings = options.picture.read_bytes(), ServeSettings(port=0)
    with (
        CrowdCounter(performance="throughput") as counter,
        AppServer(create_app(counter, settings), settings) as server,
    ):
        client = Client(server.url, picture)
        expected = counter.count(picture)
        assert json.loads(client.count())["points"] == expected.to_dict()["points"]
        print(f"{options.picture.name}: {expected}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print("one at a time:", measure_request(counter, client, picture, options.alternations))
        client.close()
        print("at once:", measure_throughput(counter, server.url, picture, options.pictures, options.rounds))


if __name__ == "__main__":
    main()
