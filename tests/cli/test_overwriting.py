"""No output of any command overwrites an input or another output."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import stand_in_counter
import stand_in_stream

from engine.cli import main
from engine.errors import ConfigError

ZONES = json.dumps({"zones": {"a": [[0, 0], [9, 0], [9, 9]]}})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a picture, zones, a bundle, annotations and rows of an evaluation."""
    monkeypatch.chdir(tmp_path)
    for folder in ("data/images", "bundle", "photos"):
        Path(folder).mkdir(parents=True)
    for name in ("data/images/IMG_1.jpg", "photos/a.jpg", "photos/b.jpg", "photo"):
        Path(name).write_bytes(b"x")
    for name in ("zones.json", "zones.mkv"):
        Path(name).write_text(ZONES)
    for name in ("data/points.json", "elsewhere.json"):
        Path(name).write_text(json.dumps({"IMG_1.jpg": [[1, 1]]}))
    shutil.copy("data/points.json", "data/data.yaml")
    Path("bundle/bundle.json").write_text("{}")
    Path("list.csv").write_text("uri\na.jpg\n")
    shutil.copy("list.csv", "rows.csv.journal")
    assert stand_in_counter.crowd("eval", "data", "--json", "rows.json") == 0
    Path("link.json").symlink_to("zones.json")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "count photos/a.jpg --zones zones.json --json zones.json",
        "count photos/a.jpg --zones zones.json --json link.json",
        "count photos/a.jpg --zones link.json --csv zones.json",
        "count photos/a.jpg --zones zones.json --jsonl ./zones.json",
        "count photos/a.jpg --zones zones.json --annotations zones.json",
        "count photos/a.jpg --zones zones.json --save zones.json",
        "count photos --zones zones.json --csv zones.json",
        "count photos --model bundle --json bundle/bundle.json",
        "count --manifest list.csv --zones zones.json --csv zones.json",
        "count --manifest rows.csv.journal --csv rows.csv",
        "count photos --annotations out --annotations-format labelme --json out/a.json",
        "count photos --annotations out --annotations-format yolo --csv out/data.yaml",
        "count photos --save-map out --json out/a.npy",
        "stream match.mp4 --zones zones.json --json zones.json",
        "stream match.mp4 --zones zones.json --csv zones.json --append",
        "stream match.mp4 --zones zones.mkv --save zones.mkv",
        "stream match.mp4 --model bundle --json bundle/bundle.json",
        "eval data --json data/points.json",
        "eval data/points.json --json data/points.json",
        "eval data --json data/data.yaml",
        "eval data --annotations elsewhere.json --json elsewhere.json",
        "eval data --json rows.json --against rows.json",
        "eval data --model bundle --json bundle/bundle.json",
        "bench photo --json photo",
        "bench --model bundle --json bundle/bundle.json",
        "zones photo --out photo",
        "zones photos/a.jpg --model bundle --out bundle/bundle.json",
    ],
)
def test_inputs_and_other_outputs_are_left_alone(words, place, capsys):
    Path("out").mkdir()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    command, *others = words.split()
    status = stand_in_stream.crowd(*others) if command == "stream" else stand_in_counter.crowd(command, *others)
    assert status == 2
    said = capsys.readouterr().err
    assert any(part in said for part in ("would overwrite", "would both write", "would write"))
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_rows_of_an_earlier_evaluation_among_the_data_are_written_anew(place):
    for _ in range(2):
        assert stand_in_counter.crowd("eval", "data", "--json", "data/rows.json") == 0
    assert len(json.loads(Path("data/rows.json").read_text())) == 1


@pytest.mark.parametrize(
    ("command", "options", "written"),
    [
        ("train", {"start": "run/model.pt"}, "run"),
        ("train", {"recipe": Path("run/fine_tuning.json")}, "run"),
        ("calibrate", {"checkpoint": Path("run/best.pt")}, Path("run/../run/best.pt")),
        ("average", {"checkpoints": [Path("run/last.pt"), Path("run/best.pt")]}, "run/best.pt"),
        ("average", {"checkpoints": [], "data": Path("elsewhere.json")}, "elsewhere.json"),
    ],
)
def test_what_training_reads_is_left_alone(command, options, written, place):
    overwriting = pytest.importorskip("engine.training.overwriting")
    Path("run").mkdir()
    for name in ("model.pt", "best.pt", "last.pt", "fine_tuning.json"):
        Path("run", name).write_bytes(b"x")
    with pytest.raises(ConfigError, match="would overwrite"):
        overwriting.refuse_overwriting(Namespace(command=command, out=Path(written), **options))
    overwriting.refuse_overwriting(Namespace(command=command, out=Path("new"), **options))


def test_a_folder_of_parts_must_be_new(place):
    """So no manifest lies in it."""
    Path("parts").mkdir()
    shutil.copy("list.csv", "parts/list.csv")
    assert main(["count", "--manifest", "parts/list.csv", "--out", "parts", "--threads", "1"]) == 2
    assert Path("parts/list.csv").read_bytes() == Path("list.csv").read_bytes()
