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
from engine.outputs.appending import cut_last_line

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
    # Each of the three holds for half a second, the last one too.
    assert f"all: {sum(counts) / 3:.1f} people on average, at most {max(counts)} at 0.00 s" in said
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


def test_a_stream_that_is_started_again_adds_to_its_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, lines = tmp_path / "day.csv", tmp_path / "day.jsonl"
    command = ["stream", str(folder), "--csv", str(table), "--json", str(lines), "--quiet", "--append"]
    zone = ["--zone", "all=0%,0% 100%,0% 100%,100% 0%,100%"]
    assert main([*command, *zone]) == 0
    first = table.read_bytes()
    # As a process leaves them that is killed while it writes.
    for path in (table, lines):
        path.write_bytes(path.read_bytes() + b'{"index": 3, "ti')
    assert main([*command, *zone]) == 0
    header = first.index(b"\n") + 1
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert table.read_bytes().startswith(first)
    assert len(table.read_bytes()) == len(first) + len(first) - header
    assert [row["index"] for row in rows] == ["0", "1", "2", "0", "1", "2"]
    assert [json.loads(line)["index"] for line in lines.read_text().splitlines()] == [0, 1, 2, 0, 1, 2]
    before = table.read_bytes(), lines.read_bytes()
    assert main(command) == 2
    assert f"cannot add to {table}: its columns are" in capsys.readouterr().err
    assert (table.read_bytes(), lines.read_bytes()) == before


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_a_last_line_that_is_not_whole_is_cut(tmp_path: Path, size: int) -> None:
    path = tmp_path / "lines"
    for whole in (b"", b"first\nsecond\n"):
        path.write_bytes(whole + b"x" * size)
        cut_last_line(path)
        assert path.read_bytes() == whole
    cut_last_line(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_the_mark_for_excel_is_there_once(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "day.csv"
    command = ["stream", str(folder), "--quiet", "--limit", "2", "--csv", str(table), "--csv-bom", "--append"]
    assert main(command) == main(command) == 0
    assert table.read_bytes().startswith(b"\xef\xbb\xbffile,index,")
    assert table.read_bytes().count(b"\xef\xbb\xbf") == 1
    rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"))))
    assert [row["index"] for row in rows] == ["0", "1", "0", "1"]
    assert [Path(row["file"]).name for row in rows[:2]] == ["0.png", "1.png"]


def test_a_folder_named_by_a_year_is_no_camera(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "2024").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert main(["stream", "2024", "--limit", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "2024/0.png"
