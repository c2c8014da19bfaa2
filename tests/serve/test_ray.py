"""The application on Ray Serve: the same answers, and what becomes of requests when a replica is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving import PICTURE, Asker, until

from engine import CrowdCounter

# tests/ray/ is a package without code, and called ray.
if (spec := importlib.util.find_spec("ray")) is None or spec.origin is None:
    pytest.skip("Ray is not installed: pip install 'crowd-engine[ray-serve]'", allow_module_level=True)

PORT = 8733
CONFIG = f"""
http_options: {{host: 127.0.0.1, port: {PORT}}}
applications:
- name: crowd
  route_prefix: /
  import_path: engine.serve.ray:app
  deployments:
  - name: crowd
    num_replicas: 2
    ray_actor_options: {{num_cpus: 1}}
"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "serve.yaml").write_text(CONFIG)
    # Ray would report its use, and leave a token in the user's home.
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    environment = {**os.environ, **settings}
    # As many logical cores as two replicas and Ray's own actors take, on however few.
    start = (
        "import ray; ray.init(num_cpus=4, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False);"
        "from ray.serve.scripts import cli; cli(['run', 'serve.yaml'])"
    )
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", start], cwd=folder, env=environment, stdout=log, stderr=log
        )
    asker = Asker(f"http://127.0.0.1:{PORT}/")
    try:
        until(lambda: process.poll() is not None or is_up(asker), 420)
        assert process.poll() is None, (folder / "log").read_text()
        yield asker
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_up(ask: Asker) -> bool:
    try:
        return ask("/healthz").status == 200
    except OSError:
        return False


def replicas() -> list[int]:
    """Processes of the replicas, by the title that Ray gives them."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                title = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::ServeReplica:crowd"):
                found.append(int(process.name))
    return found


def test_the_same_answers(ask: Asker) -> None:
    picture = PICTURE.read_bytes()
    with CrowdCounter(performance="throughput", cpu_threads=1) as counter:
        expected = counter.count(picture).to_dict()
    answer = ask.count(picture).json()
    assert {**answer, "timings": None} == {**expected, "timings": None}
    assert ask.count(b"no picture").json()["kind"] == "ImageError"
    assert b"<title>Crowd</title>" in ask("/").body
    assert ask("/v1/model", Host="evil.example").status == 421


def test_a_killed_replica_takes_no_other_request_along(ask: Asker) -> None:
    picture = PICTURE.read_bytes()
    until(lambda: len(replicas()) == 2, 120)
    ended = threading.Event()
    done: list[tuple[float, int]] = []

    def load() -> None:
        while not ended.is_set():
            start = time.monotonic()
            done.append((start, ask.count(picture).status))

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(load) for _ in range(4)]
        until(lambda: len(done) >= 8, 120)
        os.kill(replicas()[0], signal.SIGKILL)
        killed = time.monotonic()
        # Until requests that began after it are answered, by the other one and by its successor.
        until(lambda: sum(start > killed for start, _ in done) >= 12, 300)
        until(lambda: len(replicas()) == 2, 120)
        ended.set()
        for future in futures:
            future.result()
    lost = [start for start, status in done if status != 200]
    # At most those that were in it: they began before.
    assert all(start < killed for start in lost)
    assert len(lost) <= 4
