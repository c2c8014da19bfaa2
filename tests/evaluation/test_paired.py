"""Two evaluations of the same pictures: differences by hand, and what cannot be compared."""

from __future__ import annotations

import json
import math

import pytest

from engine.errors import ConfigError
from engine.evaluation.evaluate import Row
from engine.evaluation.paired import compare, read_rows, table


def row(name: str, true: int, predicted: int, part: str = "part_A", steps: int | None = None) -> Row:
    return Row(f"/data/{name}", part, steps, true, predicted, 0, 999, (0, 0), 0.1)


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
    for text in ("{", "[1]", '[{"file": "a"}]', "3"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="does not hold rows"):
            read_rows(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rows(tmp_path / "none.json")
