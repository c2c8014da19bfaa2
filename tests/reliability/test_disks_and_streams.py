"""Full disks, read-only folders, and streams that are closed or full: one line, status 1, nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reliability.processes import HANG_S, environment, python
from reliability.small_bundle import write_small_bundle

from engine.bundle.bundle import add_files, load_bundle

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and devices of Linux")

# The console script with a counter that gives the same result at once.
_CROWD = """
import sys
import numpy as np
from engine import cli
from engine.cli import command
from engine.result import CountResult
def grid(): return np.zeros((200, 200), np.float32)
class StandIn:
    settings = {"model": "none"}
    def __init__(self, **_): pass
    def close(self): pass
    def count(self, img, **_):
        return CountResult(count=0, points=np.zeros((0, 2), np.float32), scores=np.zeros(0, np.float32), heatmap=grid(),
            density=grid(), uncertainty=grid(), interval=(0, 3), zones={}, image_size=(400, 400), timings={},
            warnings=(), _image=np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8))
command._crowd_counter = StandIn
cli.run()
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(path)
    return path


def _crowd(*words: str | Path, before: Callable[[], Any] | None = None, **options: Any) -> Any:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = python("-c", _CROWD, *words)
    return subprocess.run(command, env=environment(), text=True, timeout=HANG_S, preexec_fn=before, **options)


def _small_files() -> None:
    # As on a full disk, a write that reaches the limit is cut, and the next one fails.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize("words", [("--save", "out.png"), ("--save-map", "out.npy")])
def test_a_disk_that_fills_up(picture: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    out = tmp_path / words[1]
    out.write_bytes(b"old")
    done = _crowd("count", picture, words[0], out, before=_small_files)
    assert done.returncode == 1
    assert done.stderr.startswith("crowd: ")
    assert "too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert out.read_bytes() == b"old"
    assert sorted(x.name for x in tmp_path.iterdir()) == sorted(["picture.png", out.name])


@pytest.mark.parametrize("option", ["--json", "--csv", "--jsonl"])
def test_tables_on_a_disk_that_fills_up(picture: Path, tmp_path: Path, option: str) -> None:
    """The rows that fit stand there, and the job goes on where there is room again."""
    out, pictures = tmp_path / "counts", [picture] * 80
    done = _crowd("count", *pictures, option, out, before=_small_files)
    assert done.returncode == 1
    assert done.stderr.startswith("crowd: ")
    assert "Traceback" not in done.stderr
    assert 2 < _rows(out, option) < 80
    assert sorted(x.name for x in tmp_path.iterdir()) == ["counts", "counts.journal", "picture.png"]
    done = _crowd("count", *pictures, option, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert _rows(out, option) == 80
    assert sorted(x.name for x in tmp_path.iterdir()) == ["counts", "picture.png"]


def _rows(table: Path, option: str) -> int:
    if option == "--json":
        return len(json.loads(table.read_text()))
    lines = table.read_text().splitlines()
    return len(list(csv.DictReader(lines))) if option == "--csv" else len([json.loads(line) for line in lines])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_file_system_that_fills_up(picture: Path, tmp_path: Path) -> None:
    """A real one of 256 KiB, which other files fill while the job runs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    try:
        for option in ("--json", "--csv", "--jsonl"):
            out = disk / "counts"
            (disk / "other").write_bytes(bytes(170 << 10))
            done = _crowd("count", *[picture] * 500, option, out)
            assert done.returncode == 1
            assert "No space left" in done.stderr
            rows = _rows(out, option)
            assert 2 < rows < 500
            (disk / "other").unlink()
            done = _crowd("count", *[picture] * (rows + 20), option, out, "--resume")
            assert done.returncode == 0, done.stderr
            assert _rows(out, option) >= rows + 20
            out.unlink()
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("words", [("--json", "/dev/full"), ("--csv", "/dev/full")])
def test_a_device_that_is_full(picture: Path, words: tuple[str, str]) -> None:
    done = _crowd("count", picture, *words)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize("words", [(), ("--json",), ("--csv",)])
def test_full_standard_output(picture: Path, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = _crowd("count", picture, *words, stdout=full)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [(1,), (2,), (0,), (0, 1, 2)])
def test_closed_streams(picture: Path, tmp_path: Path, closed: tuple[int, ...]) -> None:
    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    out = tmp_path / "counts.csv"
    done = _crowd("count", picture, "--csv", out, before=close)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert len(out.read_text().splitlines()) == 2


def test_read_only_folders(picture: Path, tmp_path: Path) -> None:
    """As a user who may not write there: permissions do not bind root, so /proc stands for such a folder."""
    done = _crowd("count", picture, "--json", "/proc/counts.json", "--save", "/proc/overlay.png")
    assert done.returncode == 1
    assert done.stderr.startswith("crowd: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="permissions do not bind root")
def test_folders_without_permission(picture: Path, tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    done = _crowd("count", picture, "--csv", folder / "counts.csv")
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert list(folder.iterdir()) == []


def test_a_bundle_on_a_disk_that_fills_up(tmp_path: Path) -> None:
    """The addition fails, and the bundle is as it was."""
    folder = write_small_bundle(tmp_path / "bundle").path
    before = load_bundle(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            add_files(folder, {"new.bin": bytes(1_000_000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_bundle(folder) == before
    assert not list(folder.glob("*.part"))
