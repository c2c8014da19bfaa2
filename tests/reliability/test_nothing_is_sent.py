"""Counting opens no connection, starts no process and leaves nothing in the user's home but compiled models."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from reliability.processes import TESTS, describe, environment, python, run

from engine.system.telemetry import no_telemetry

PICTURE = TESTS.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"

# Variables that make some packages silent, or that move the folder of compiled models.
_HUSHED = ("CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME", "CROWD_CACHE_DIR")
# Python tells its audit hooks of every socket, process and look-up of a host, in forked processes as well.
_WATCHED = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
KINDS = ("socket.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "subprocess.", "urllib.", "http.", "ftplib.")
def watch(event, arguments):
    if event.startswith(KINDS):
        os.write(log, f"{event} {arguments}\\n".encode())
sys.addaudithook(watch)
"""
_COUNT = """
import engine
for samples in (1, 2):
    with engine.CrowdCounter(samples=samples, cpu_threads=1) as counter:
        result = counter.count(sys.argv[2])
        result.to_json(), result.plot()
"""
_COMMAND = """
from engine.cli import main
assert main(["count", sys.argv[2], "--json", "--threads", "1"]) == 0
"""


def _events(tmp_path: Path, program: str) -> tuple[str, list[str]]:
    """What a process did that could send something, and the names that it left in its home."""
    home, log = tmp_path / "home", tmp_path / "events"
    home.mkdir()
    # Some packages send nothing in a CI run, which would hide here what they send elsewhere.
    env = {k: v for k, v in environment(HOME=str(home)).items() if k not in _HUSHED}
    done = run(python("-c", _WATCHED + program, log, PICTURE), env=env)
    assert done.returncode == 0, describe(done)
    return log.read_text(), sorted(str(x.relative_to(home)) for x in home.rglob("*") if x.is_file())


@pytest.mark.parametrize("program", [_COUNT, _COMMAND], ids=["counter", "command"])
def test_a_count_sends_nothing(program: str, tmp_path: Path) -> None:
    events, files = _events(tmp_path, program)
    assert events == ""
    # Compiled models alone, in the folder that the README names.
    assert [x for x in files if not x.startswith(".cache/crowd-engine/")] == []


@pytest.mark.skipif(not find_spec("openvino_telemetry"), reason="this OpenVINO has no reporter to be silenced")
def test_what_is_silenced_is_there(tmp_path: Path) -> None:
    """The same watch sees what OpenVINO does by itself; it sends to a host that no test can reach."""
    # A thread of OpenVINO's starts the process that reports, some time after the import: until then, or for a minute.
    program = (
        "import socket, time\nsocket.getaddrinfo = None\nimport openvino\n"
        "for _ in range(600):\n"
        "    if os.fstat(log).st_size: break\n"
        "    time.sleep(0.1)\n"
    )
    events, _ = _events(tmp_path, program)
    assert events


def test_the_reporter_is_hidden_only_within() -> None:
    program = (
        "import sys\nfrom importlib.util import find_spec\nfrom engine.system.telemetry import no_telemetry\n"
        "with no_telemetry():\n"
        "    try: import openvino_telemetry\n"
        "    except ImportError: print('hidden')\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    done = run(python("-c", program))
    assert done.stdout == "hidden\n", describe(done)


def test_a_reporter_that_is_loaded_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino_telemetry", subprocess)
    with no_telemetry():
        assert sys.modules["openvino_telemetry"] is subprocess
    assert sys.modules["openvino_telemetry"] is subprocess


def test_every_import_of_openvino_is_silent() -> None:
    """One folder's first import is silent, and so are all others of that folder; training imports it silently too."""
    root = TESTS.parent
    folders = ("engine", "kernels", "export", "training", "examples")
    files = [p for folder in folders for p in (root / folder).rglob("*.py")]
    found = {p for p in files if re.search(r"^\s*(import|from) openvino", p.read_text(), re.MULTILINE)}
    backend, training = root / "engine" / "backends" / "openvino", root / "training" / "frozen_layers.py"
    assert {p.parent for p in found - {training}} == {backend}
    for file, guard in (
        (backend / "__init__.py", "with suppress(ImportError), no_telemetry():"),
        (training, "with no_telemetry():"),
    ):
        lines = file.read_text().splitlines()
        assert lines[lines.index(guard) + 1].strip().startswith("import openvino")
