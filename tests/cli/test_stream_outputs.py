"""``crowd stream`` into all its outputs at once, on the shipped model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.cli import main

av = pytest.importorskip("av", reason="videos need the extra 'video'")

PICTURE = Path(__file__).parent.parent.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of one crowd; nobody is on the one in the middle."""
    folder = tmp_path_factory.mktemp("frames")
    crowd = Image.open(PICTURE).convert("RGB").resize((384, 288))
    for number, picture in enumerate([crowd, Image.new("RGB", crowd.size), crowd]):
        picture.save(folder / f"{number}.png")
    return folder


def test_every_output_tells_the_same(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zone = ["--zone", "all=0%,0% 100%,0% 100%,100% 0%,100%", "--line", "half=0%,50% 100%,50%"]
    files = ["--save", "out.mp4", "--json", "out.jsonl", "--csv", "out.csv", "--save-maps", "maps"]
    files = [name if name.startswith("-") else str(tmp_path / name) for name in files]
    command = ["stream", str(folder), "--fps", "2", *zone, "--alert", "all=1:0", *files, "--show"]
    assert main(command) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    counts = [row["count"] for row in rows]
    assert len(counts) == 3
    assert counts[0] > 0 == counts[1]
    assert [row["timestamp"] for row in rows] == [0, 0.5, 1]
    assert [row["zones"] for row in rows] == [{"all": count} for count in counts]
    # The zone that holds everybody is as sure as the whole.
    assert [row["zone_intervals"]["all"] for row in rows] == [row["interval"] for row in rows]
    assert [sum(row["lines"]["half"]) for row in rows] == counts
    assert [row["alerts"] for row in rows] == [["all"], [], ["all"]]
    table = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [int(row["count"]) for row in table] == [int(row["zone.all"]) for row in table] == counts
    assert [row["alert.all"] for row in table] == ["1", "0", "1"]
    maps = [np.load(path) for path in sorted((tmp_path / "maps").iterdir())]
    assert [round(float(m.sum())) for m in maps] == counts
    with av.open(str(tmp_path / "out.mp4")) as video:
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in video.decode(video=0)]
    assert [t for t, _ in frames] == pytest.approx([0, 0.5, 1])
    assert {f.shape for _, f in frames} == {(288, 384, 3)}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps", "out.csv", "out.jsonl", "out.mp4"]
    said = capsys.readouterr().err
    assert "showing it at http://127.0.0.1:" in said
    assert [line for line in said.splitlines() if "alert" in line] == [
        f"crowd: 0.00 s: all: alert on at {counts[0]} people",
        "crowd: 0.50 s: all: alert off at 0 people",
        f"crowd: 1.00 s: all: alert on at {counts[2]} people",
    ]


def test_mistakes_leave_no_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ["--json", str(tmp_path / "out.jsonl"), "--alert", "gate=5"]
    assert main(["stream", str(folder), *rest]) == 2
    assert "no such zone" in capsys.readouterr().err
    assert main(["stream", str(folder), *rest[:2], "--save", str(tmp_path / "out.avi")]) == 2
    assert "out.avi" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
