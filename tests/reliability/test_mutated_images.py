"""Damaged pictures, in a process of limited memory: an array or an ImageError comes out, whatever goes in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from reliability.mutated_images import picture, storm, try_one
from reliability.mutations import sound_files
from reliability.processes import describe, python, run

from engine.config import ImageLimits
from engine.image import load as images

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")

# Bytes of address space, libraries included. A picture at the limit of 160 megapixels takes 2.5 GiB at most.
_MEMORY = 3 << 30
# Seconds of processor time; they take 0.5 ms in the mean, and the slowest some seconds.
_SECONDS_PER_PICTURE = 0.05


def test_damaged_pictures_are_read_or_refused(tmp_path: Path, long_run: bool) -> None:
    """8,000 pictures in each CI run, 100,000 others in the long one."""
    first, count = (20_000, 100_000) if long_run else (0, 8_000)
    marker = tmp_path / "number"
    command = python("-m", "reliability.mutated_images", "--first", first, "--count", count, "--marker", marker)
    done = run([str(x) for x in command], memory=_MEMORY, processor_s=round(count * _SECONDS_PER_PICTURE))
    assert done.stdout, f"picture {marker.read_text()}: the process {describe(done)}"
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["problems"] == []
    assert done.returncode == 0
    assert report["loaded"] + report["refused"] == count
    # The damage is neither so hard that all is refused at once, nor so soft that it tests nothing.
    assert 0.1 < report["loaded"] / count < 0.5
    assert len(report["loaded_formats"]) == 14


def test_the_damage_is_reproducible() -> None:
    files = sound_files()
    assert [picture(n, files) for n in range(50)] == [picture(n, files) for n in range(50)]
    assert len({picture(n, files)[1] for n in range(500)}) > 450


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError(), SystemExit(3)])
def test_other_errors_are_noticed(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(images, "rgb_from_encoded", fail)
    outcome, problem = try_one(b"x", ImageLimits())
    assert outcome == "raised"
    assert type(error).__name__ in str(problem)


def test_running_out_of_memory_is_noticed() -> None:
    """One picture of 140 megapixels in a process that has no room for it."""
    program = (
        "from reliability.mutations import claimed_png\n"
        "from reliability.mutated_images import try_one\n"
        "from engine.config import ImageLimits\n"
        "print(try_one(claimed_png(14000, 10000), ImageLimits()))\n"
    )
    done = run(python("-c", program), memory=400 << 20)
    assert "out of memory" in done.stdout, describe(done)


def test_sound_pictures_pass(tmp_path: Path) -> None:
    assert all(try_one(data, ImageLimits()) == ("loaded", None) for data in sound_files().values())
    report = storm(0, 40, ImageLimits(), tmp_path / "number")
    assert (tmp_path / "number").read_text() == "39"
    assert report["pictures"] == 40
