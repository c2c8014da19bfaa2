"""``crowd count`` that is stopped and goes on: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest
from stand_in_counter import StandInCounter, crowd


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twenty pictures that count as 1 to 20 people; the seventh cannot be read."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.jpg").write_bytes(b"x" * (number + 1))
    (folder / "06.jpg").write_bytes(b"bad")
    return folder


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each picture was counted; ``stop_at`` names one that is interrupted, once."""
    names: Counter[str] = Counter()
    count = StandInCounter.count

    def watched(self: StandInCounter, img: Any, **given: Any) -> Any:
        name = Path(img).name
        if name == StandInCounter.stop_at:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        names[name] += 1
        return count(self, img, **given)

    monkeypatch.setattr(StandInCounter, "count", watched)
    monkeypatch.setattr(StandInCounter, "stop_at", "", raising=False)
    return names


def stop_at(name: str) -> None:
    StandInCounter.stop_at = name  # type: ignore[attr-defined]


def tables(folder: Path) -> list[list[str]]:
    """The names in every table, in their order."""
    rows = [
        list(csv.DictReader((folder / "t.csv").read_text().splitlines())),
        json.loads((folder / "t.json").read_text()),
        [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()],
    ]
    return [[Path(row["file"]).name for row in table] for table in rows]


def outputs(folder: Path) -> list[Any]:
    return ["--csv", folder / "t.csv", "--json", folder / "t.json", "--jsonl", folder / "t.jsonl", "--quiet"]


NAMES = [f"{number:02}.jpg" for number in range(20)]


def test_stopped_again_and_again(pictures: Path, tmp_path: Path, counted: Counter[str], capsys: Any) -> None:
    resume: list[str] = []
    for name in ("04.jpg", "05.jpg", "13.jpg"):
        stop_at(name)
        assert crowd("count", pictures, *outputs(tmp_path), *resume) == 130
        done = int(name[:2])
        assert tables(tmp_path) == [NAMES[:done]] * 3
        assert (tmp_path / "t.csv.journal").exists()
        resume = ["--resume"]
    stop_at("")
    # The one that cannot be read was in the run before.
    assert crowd("count", pictures, *outputs(tmp_path), "--resume") == 0
    assert tables(tmp_path) == [NAMES] * 3
    assert "13 done already" in capsys.readouterr().err
    # Those that were counted ahead of the one that was interrupted are counted again, no others.
    assert all(times <= 1 for name, times in counted.items() if name < "04.jpg")
    assert set(counted) == set(NAMES)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["pictures", "t.csv", "t.json", "t.jsonl"]


def test_other_settings_and_another_model_are_refused(
    pictures: Path, tmp_path: Path, counted: Counter[str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at("04.jpg")
    assert crowd("count", pictures, *outputs(tmp_path)) == 130
    stop_at("")
    files = {path: path.read_bytes() for path in tmp_path.glob("t.*")}
    for more in (["--steps", 3], ["--seed", 1], ["--zone", "a=0,0 9,0 9,9"]):
        assert crowd("count", pictures, *outputs(tmp_path), "--resume", *more) == 2
        assert "is of a job with" in capsys.readouterr().err
    monkeypatch.setattr(StandInCounter, "settings", property(lambda self: {**self.options, "model": "another"}))
    assert crowd("count", pictures, *outputs(tmp_path), "--resume") == 2
    assert "model=bytes" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.glob("t.*")} == files


def test_without_resume_the_old_rows_are_set_aside(
    pictures: Path, tmp_path: Path, counted: Counter[str], capsys: Any
) -> None:
    stop_at("04.jpg")
    assert crowd("count", pictures, *outputs(tmp_path)) == 130
    capsys.readouterr()
    stop_at("02.jpg")
    assert crowd("count", pictures, *outputs(tmp_path)) == 130
    assert "t.csv.journal.old has the rows of a job that was stopped" in capsys.readouterr().err
    stop_at("")
    assert crowd("count", pictures, *outputs(tmp_path)) == 1
    assert "t.csv.journal.old.2 has the rows of a job that was stopped" in capsys.readouterr().err
    assert tables(tmp_path) == [NAMES] * 3
    assert (tmp_path / "t.csv.journal.old").read_text().count("\n") == 5
    assert (tmp_path / "t.csv.journal.old.2").read_text().count("\n") == 3
    # As the message says: they are gone on with under the journal's name.
    (tmp_path / "t.csv.journal.old").rename(tmp_path / "t.csv.journal")
    counted.clear()
    assert crowd("count", pictures, *outputs(tmp_path), "--resume") == 1
    assert (tables(tmp_path), set(counted)) == ([NAMES] * 3, set(NAMES[4:]))


def test_pictures_that_came_meanwhile_or_are_named_twice(pictures: Path, tmp_path: Path, counted: Counter[str]) -> None:
    twice = [pictures / "01.jpg", pictures, pictures / "01.jpg"]
    stop_at("10.jpg")
    assert crowd("count", *twice, *outputs(tmp_path)) == 130
    stop_at("")
    (pictures / "005.jpg").write_bytes(b"1")
    assert crowd("count", *twice, *outputs(tmp_path), "--resume") == 0
    (names, *others) = tables(tmp_path)
    assert others == [names, names]
    assert Counter(names) == Counter([*NAMES, "01.jpg", "01.jpg", "005.jpg"])


def test_resume_needs_a_file_and_begins_where_nothing_is(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    assert crowd("count", pictures, "--csv", "--resume") == 2
    assert "--resume needs what the job was writing" in capsys.readouterr().err
    assert crowd("count", pictures, *outputs(tmp_path), "--resume") == 1
    assert "nothing done yet" in capsys.readouterr().err
    assert tables(tmp_path) == [NAMES] * 3


def test_what_is_done_is_neither_counted_again_nor_replaced(
    pictures: Path, tmp_path: Path, counted: Counter[str], capsys: Any
) -> None:
    assert crowd("count", pictures, *outputs(tmp_path)) == 1
    kept = (tmp_path / "t.csv").read_bytes()
    counted.clear()
    assert crowd("count", pictures, *outputs(tmp_path), "--resume") == 2
    assert "t.csv has no journal beside it, so the job that wrote it is done" in capsys.readouterr().err
    assert not counted
    assert (tmp_path / "t.csv").read_bytes() == kept


def test_a_manifest_to_parquet_parts(pictures: Path, tmp_path: Path, counted: Counter[str], capsys: Any) -> None:
    manifest = tmp_path / "m.csv"
    rows = [f"{3 * number},{number},{pictures / name},x" for number, name in enumerate(NAMES)]
    manifest.write_text("\n".join(["key,place,uri,other", *rows, "99,20,,x", ""]))
    command = ["count", "--manifest", manifest, "--id", "key", "--out", tmp_path / "out"]
    stop_at("11.jpg")
    assert crowd(*command) == 130
    assert read(tmp_path / "out")["id"] == [3 * number for number in range(11)]
    assert crowd(*command) == 2
    assert "add --resume" in capsys.readouterr().err
    stop_at("")
    for change, name in ((("--id", "place"), "id"), (("--column", "other"), "column")):
        assert crowd(*command, *change, "--resume") == 2
        assert f"is of a job with {name}=" in capsys.readouterr().err
    assert crowd(*command, "--resume") == 1
    table = read(tmp_path / "out")
    assert table["id"] == [*(3 * number for number in range(20)), 99]
    assert table["count"] == [*(None if number == 6 else number + 1 for number in range(20)), None]
    assert [error for error in table["error"] if error] == ["not a picture", "the manifest has no address here"]
    assert set(table["model"]) == {"bytes"}
    # It is done: nothing is counted again.
    counted.clear()
    assert crowd(*command, "--resume") == 0
    assert not counted
    manifest.write_text(manifest.read_text() + "100,21,x.jpg,x\n")
    assert crowd(*command, "--resume") == 2
    assert "is of a job with pictures=" in capsys.readouterr().err


def read(folder: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pyarrow.dataset.dataset(folder, format="parquet").to_table().to_pydict()
    return columns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "nothing to count"),
        ("{0} --manifest {0}/m.csv", "takes the place of INPUT"),
        ("{0} --column uri", "--column needs --manifest, and changes nothing without it"),
        ("{0} --id key", "--id needs --manifest, and"),
        ("{0} --part-rows 5 --csv t.csv", "--part-rows needs --out, and"),
        ("--manifest {0}/m.csv --out out --actors 4", "--actors needs --ray, and"),
        ("--manifest {0}/m.csv --out out --actors 0", "--actors needs --ray, and"),
        ("{0} --csv-bom --json", "--csv-bom needs --csv, and"),
        ("{0} --annotations-box 0", "--annotations-box needs --annotations, and"),
        ("{0} --annotations-format coco", "--annotations-format needs --annotations, and"),
        ("--manifest {0}/m.csv --save out", "not for a manifest"),
        ("--manifest {0}/none.csv", "does not exist"),
        ("{0} --out out --csv t.csv", "--out has tables of its own"),
        ("{0} --json --jsonl", "only one of"),
        ("--manifest {0}/m.csv --csv {0}/m.csv", "would overwrite"),
        ("{0} --timeout 0", "positive"),
    ],
)
def test_bad_usage(words: str, message: str, pictures: Path, capsys: Any) -> None:
    (pictures / "m.csv").write_text("uri\na.jpg\n")
    assert crowd("count", *words.format(pictures).split()) == 2
    assert message in capsys.readouterr().err
    assert (pictures / "m.csv").read_text() == "uri\na.jpg\n"
