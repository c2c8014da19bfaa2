"""Damaged videos, in a process of limited memory: frames, the end or a SourceError come out, whatever goes in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from reliability.mutated_videos import sound_videos, storm, try_one, video
from reliability.processes import describe, python, run
from videos import numbered, write_video

from engine.stream import sources

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")

# Bytes of address space, libraries included.
_MEMORY = 4 << 30


def test_damaged_videos_are_read_or_refused(tmp_path: Path, long_run: bool) -> None:
    """60 videos in each CI run, 1,000 others in the long one."""
    first, count = (60, 1_000) if long_run else (0, 60)
    marker = tmp_path / "number"
    command = python("-m", "reliability.mutated_videos", "--first", first, "--count", count, "--marker", marker)
    done = run([str(x) for x in command], memory=_MEMORY)
    assert done.stdout, f"video {marker.read_text()}: the process {describe(done)}"
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["problems"] == []
    assert done.returncode == 0
    assert report["read"] + report["refused"] + report.get("cut", 0) == count
    # The damage is neither so hard that all is refused at once, nor so soft that it tests nothing.
    assert 0.2 < report["refused"] / count < 0.8


def test_the_damage_is_reproducible(tmp_path: Path) -> None:
    files = sound_videos(tmp_path)
    assert len(files) > 5
    assert [video(n, files) for n in range(20)] == [video(n, files) for n in range(20)]


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), SystemExit(3)])
def test_other_errors_and_endless_videos_are_noticed(error, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [numbered(0)] * 3)
    assert try_one(path) == ("read", 3, None)
    monkeypatch.setattr("reliability.mutated_videos._MANY", 2)
    assert try_one(path)[0] == "endless"

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(sources.MediaClock, "__call__", fail)
    outcome, frames, problem = try_one(path)
    assert (outcome, frames) == ("raised", 0)
    assert type(error).__name__ in str(problem)


def test_sound_videos_pass(tmp_path: Path) -> None:
    report = storm(0, 3, tmp_path / "number")
    assert (tmp_path / "number").read_text() == "2"
    assert report["videos"] == 3
