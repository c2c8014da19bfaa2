"""Ctrl-C and SIGKILL at random moments: one line and status 130, and files that are old, whole or not there."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from reliability.processes import describe, python, run
from reliability.stopped import OLD, PICTURES, StandIn
from stand_in_counter import StandInResult

from engine.bundle.bundle import load_bundle
from engine.cli import main
from engine.errors import BundleError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and signalled")
COMMANDS = ["count", "eval", "stream", "doctor", "export"]


def _outcomes(name: str, number: int, trials: int, folder: Path) -> list[dict[str, Any]]:
    words = ("-m", "reliability.stopped", name, folder, "--signal", number, "--trials", trials)
    done = run(python(*(str(x) for x in words)))
    assert done.returncode == 0, describe(done)
    outcomes: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    assert len(outcomes) == trials
    return outcomes


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c(name: str, tmp_path: Path, long_run: bool) -> None:
    """Each command 20 (200) times, the exporter 3 (30) times."""
    trials = (3 if name == "export" else 20) * (10 if long_run else 1)
    outcomes = _outcomes(name, signal.SIGINT, trials, tmp_path)
    for number, outcome in enumerate(outcomes):
        # It may have ended before.
        assert outcome["code"] in (0, 130), outcome
        assert "Traceback" not in outcome["log"], outcome
        assert "Exception ignored" not in outcome["log"], outcome
        assert not any(".part" in file or "/." in f"/{file}" for file in outcome["files"]), outcome
        _assert_whole(tmp_path / f"trial-{number}")
        if name == "count":
            _assert_resumable(tmp_path / "data", tmp_path / f"trial-{number}")
    assert any(outcome["code"] == 130 for outcome in outcomes)


@pytest.mark.parametrize("name", ["count", "eval", "export"])
def test_kills(name: str, tmp_path: Path, long_run: bool) -> None:
    """Each command 20 (200) times, the exporter 3 (30) times; what is left behind has a name that says so."""
    trials = (3 if name == "export" else 20) * (10 if long_run else 1)
    outcomes = _outcomes(name, signal.SIGKILL, trials, tmp_path)
    for number in range(trials):
        _assert_whole(tmp_path / f"trial-{number}")
        if name == "count":
            _assert_resumable(tmp_path / "data", tmp_path / f"trial-{number}")
    assert any(outcome["code"] == -signal.SIGKILL for outcome in outcomes)


def test_killed_additions_to_a_bundle(tmp_path: Path, long_run: bool) -> None:
    """Old, new, or refused: what was written half is never taken for a bundle. 20 (200) times."""
    trials = 200 if long_run else 20
    _outcomes("bundle", signal.SIGKILL, trials, tmp_path)
    names = ("cubins.zip", "second.bin")
    for number in range(trials):
        folder = tmp_path / f"trial-{number}" / "bundle"
        try:
            bundle = load_bundle(folder)
        except BundleError:
            continue
        added = [(folder / name).read_bytes() == b"new" * 1_000_000 for name in names if (folder / name).exists()]
        assert (bundle.versions == {"maker": "1"}) == (added == [True, True])


def _assert_resumable(data: Path, folder: Path) -> None:
    """No row that was there is lost, and with --resume every picture has one row in every table.

    Where tables but no journal are there, a job was done, this one or that before it, and nothing is counted again.
    """
    StandIn.result = StandInResult(0, (0, 3))
    journal = folder / "counts.csv.journal"
    kept = [json.loads(line)["file"] for line in journal.read_bytes().split(b"\n")[1:-1]] if journal.exists() else []
    for found in _tables(folder):
        assert not kept or [row["file"] for row in found][: len(kept)] in (kept, [])
    outputs = [word for kind in ("csv", "json", "jsonl") for word in (f"--{kind}", str(folder / f"counts.{kind}"))]
    pictures = sorted(str(path) for path in (data / "images").iterdir())
    is_done = not journal.exists() and any((folder / f"counts.{kind}").exists() for kind in ("csv", "json", "jsonl"))
    before = _tables(folder)
    assert main(["count", str(data), *outputs, "--quiet", "--resume"], counter_factory=StandIn) == (2 if is_done else 0)
    if is_done:
        assert _tables(folder) == before
        assert all(sorted(row["file"] for row in found) in (pictures, []) for found in before)
        return
    assert [sorted(row["file"] for row in found) for found in _tables(folder)] == [pictures] * 3
    assert not journal.exists()
    assert not list(folder.glob(".counts*"))


def _tables(folder: Path) -> list[list[dict[str, Any]]]:
    """Rows of each table; none of one that is old or not there."""
    texts = [(folder / f"counts.{kind}") for kind in ("csv", "json", "jsonl")]
    texts = [path.read_text() if path.exists() and path.read_text() != OLD else "" for path in texts]
    return [
        list(csv.DictReader(texts[0].splitlines())),
        json.loads(texts[1] or "[]"),
        [json.loads(line) for line in texts[2].splitlines()],
    ]


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


def _assert_whole(folder: Path) -> None:
    """Every file that is not hidden is as it was before, or complete."""
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or file.is_dir() or "bundle" in file.relative_to(folder).parts or file.read_bytes() == OLD.encode():
            continue
        if file.suffix in (".journal", ".old"):
            continue
        if file.suffix == ".csv":
            # Frame by frame, or picture by picture; the header may be all there is.
            assert len(list(csv.DictReader(file.read_text().splitlines()))) <= PICTURES
        elif file.name == "counts.jsonl":
            assert all(json.loads(line)["file"] for line in file.read_text().splitlines())
        elif file.suffix == ".jsonl":
            assert [json.loads(line)["index"] for line in file.read_text().splitlines()] == list(range(_lines(file)))
        elif file.suffix == ".mp4":
            with av.open(str(file)) as video:
                assert 0 < sum(1 for _ in video.decode(video=0)) <= PICTURES
        elif file.suffix == ".json":
            assert len(json.loads(file.read_text())) > 0
        elif file.suffix == ".npy":
            assert np.load(file, allow_pickle=False).dtype == np.float32
        else:
            with Image.open(file) as picture:
                picture.load()
    if (folder / "bundle").exists():
        load_bundle(folder / "bundle")
