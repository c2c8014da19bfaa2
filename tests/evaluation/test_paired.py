"""Two evaluations of the same pictures: differences by hand, and what cannot be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from engine.dataset.samples import Sample
from engine.errors import ConfigError
from engine.evaluation.evaluate import Row
from engine.evaluation.paired import check_comparable, compare, read_rows, table


def row(name: str, true: int, predicted: int, part: str = "part_A", steps: int | None = None) -> Row:
    return Row(f"/data/{part}/{name}", part, steps, true, predicted, 0, 999, (0, 0), 0.1, split="test")


def test_the_change_is_the_mean_of_the_differences_on_the_same_pictures() -> None:
    before = [row("1.jpg", 100, 110), row("2.jpg", 50, 40), row("3.jpg", 10, 10), row("7.jpg", 5, 9)]
    now = [row("3.jpg", 10, 12), row("1.jpg", 100, 96), row("2.jpg", 50, 50), row("8.jpg", 1, 1)]
    (group,) = compare(before, now)
    # Absolute errors 10, 10, 0 become 4, 0, 2: differences -6, -10, +2.
    assert (group.images, group.better, group.worse) == (3, 2, 1)
    assert group.before == pytest.approx(20 / 3)
    assert group.now == pytest.approx(2)
    assert group.change == pytest.approx(-14 / 3)
    mean = -14 / 3
    variance = sum((x - mean) ** 2 for x in (-6, -10, 2)) / 2
    assert group.error == pytest.approx(math.sqrt(variance / 3))


def test_parts_are_apart_and_then_together() -> None:
    before = [row("1.jpg", 10, 11), row("1.jpg", 10, 13, "part_B")]
    groups = compare(before, [row("1.jpg", 10, 10), row("1.jpg", 10, 14, "part_B")])
    assert [(x.part, x.images, x.change) for x in groups] == [("part_A", 1, -1), ("part_B", 1, 1), ("all", 2, 0)]
    assert math.isnan(groups[0].error)
    lines = table(groups).splitlines()
    assert len(lines) == 4
    assert lines[1].split() == ["part_A", "1", "1.00", "0.00", "-1.00", "nan", "1", "0"]
    assert len({len(line) for line in lines}) == 1


def test_numbers_of_steps_are_apart() -> None:
    before = [row("1.jpg", 10, 12, steps=steps) for steps in (1, 2)]
    groups = compare(before, [row("1.jpg", 10, 12 + steps, steps=steps) for steps in (1, 2)])
    assert [(x.part, x.images, x.change) for x in groups] == [("part_A, 1 steps", 1, 1), ("part_A, 2 steps", 1, 2)]


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ([row("1.jpg", 1, 1)], [row("2.jpg", 1, 1)], "no picture in common"),
        ([row("1.jpg", 1, 1, steps=1)], [row("1.jpg", 1, 1, steps=2)], "no picture in common"),
        ([row("1.jpg", 1, 1)] * 1 + [row("1.jpg", 1, 2)], [row("1.jpg", 1, 1)], "more than once"),
        ([row("1.jpg", 1, 1)], [row("1.jpg", 2, 1)], "2 people now and 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(before, now, message) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(before, now)


def test_rows_are_read_as_they_were_written(tmp_path) -> None:
    rows = [row("1.jpg", 3, 4), row("2.jpg", 5, 6, steps=2)]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([x.to_dict() for x in rows]))
    assert [x.to_dict() for x in read_rows(file)] == [x.to_dict() for x in rows]
    for text in ("{", "[1]", '[{"file": "a"}]', "3", "{}", "[" * 100_000):
        file.write_text(text)
        with pytest.raises(ConfigError, match="does not hold rows"):
            read_rows(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rows(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("predicted", value) for value in ("7", 7.5, None, True, [7])),
        *((key, "7") for key in ("true", "low", "high", "steps", "seconds", "ranking", "matched")),
        *((key, 7) for key in ("file", "part", "split")),
        ("matched", {"4": 1, "8": "2"}),
        ("matched", {"4": 1}),
        ("seconds", math.inf),
    ],
)
def test_values_of_another_type_are_refused_when_the_file_is_read(key, value, tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row("1.jpg", 3, 4).to_dict(), row("2.jpg", 3, 4).to_dict() | {key: value}]))
    with pytest.raises(ConfigError, match=rf"does not hold rows of crowd eval --json \(\[1\]: .*'({key}|8)'"):
        read_rows(file)


def test_rows_without_a_split_are_read(tmp_path):
    data = row("1.jpg", 3, 4).to_dict()
    del data["split"]
    (tmp_path / "rows.json").write_text(json.dumps([data]))
    assert [x.split for x in read_rows(tmp_path / "rows.json")] == [""]


def at(folder: str, *files: str, steps: int | None = None, error: int = 1) -> list[Row]:
    """Rows of pictures of 1, 2, ... people, by their place in ``files``."""
    return [
        Row(f"{folder}/{file}", "data", steps, n, n + error, 0, 9, (0, 0), 0.1, split="test")
        for n, file in enumerate(files, 1)
    ]


CAMERAS = ("cam1/images/1.jpg", "cam1/images/2.jpg", "cam2/images/1.jpg", "cam2/images/2.jpg")


@pytest.mark.parametrize("folder", ["/data", "/elsewhere/deep", "data", "C:\\data", "/"])
def test_pictures_of_one_name_in_several_folders_stay_apart(folder):
    before = at("/data", *CAMERAS)
    before[3] = at("/data", *CAMERAS, error=5)[3]
    (group,) = compare(before, at(folder, *CAMERAS, error=2))
    assert (group.images, group.before, group.now, group.worse, group.better) == (4, 2, 2, 3, 1)


@pytest.mark.parametrize("chosen", [slice(0, 2), slice(3, 4), slice(1, 3)])
def test_either_evaluation_may_be_of_a_part_of_the_data(chosen):
    some = at("/new", *CAMERAS, error=2)[chosen]
    for before, now in ((at("/old", *CAMERAS), some), (some, at("/old", *CAMERAS))):
        (group,) = compare(before, now)
        assert group.images == len(some)
        assert abs(group.change) == 1


def test_splits_are_apart(tmp_path):
    before, now = at("/data", "1.jpg", "2.jpg"), at("/data", "1.jpg", "2.jpg", error=3)
    now[0] = Row(**{**now[0].__dict__, "split": "val"})
    groups = compare(before, now)
    assert [(x.part, x.images, x.change) for x in groups] == [("data, test", 1, 2), ("data, val", 1, 2), ("all", 2, 2)]


def test_what_cannot_be_compared_is_known_before_it_is_counted():
    samples = [Sample(Path("/data/1.jpg"), np.zeros((n, 2), np.float32), "data") for n in (1,)]
    check_comparable(at("/old", "1.jpg", steps=2), samples, [1, 2])
    for before, steps, message in (
        (at("/old", "1.jpg", steps=2), [None], "no picture in common"),
        (at("/old", "3.jpg", "1.jpg"), [None], "1 people now and 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_comparable(before, samples, steps)
