"""A Ray cluster of four logical CPUs on this machine; these tests are collected only where Ray is installed."""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    importlib.metadata.version("ray")
except importlib.metadata.PackageNotFoundError:
    collect_ignore_glob = ["test_*.py"]
else:
    # Before Ray is imported. A password of this cluster alone, which its programs take from their environment.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Ray's workers import from the folder that they are started in.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONSAFEPATH": "1"}

# Seconds in which a busy machine starts a cluster.
_START_S = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long-ray", action="store_true", help="more pictures and more kills")


@pytest.fixture(scope="session")
def long_run(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long-ray", default=False))


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Its address. It outlives the programs that connect to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Paths of sockets are short.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        words = ["start", "--head", "--block", "--num-cpus=4", f"--port={port}", "--node-ip-address=127.0.0.1"]
        words += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}"]
        command = [sys.executable, "-P", "-m", "ray.scripts.scripts", *words]
        log = Path(folder, "start.log")
        with open(log, "w") as output, subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as head:
            deadline = time.monotonic() + _START_S
            while "Ray runtime started" not in log.read_text():
                assert head.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
            head.terminate()
