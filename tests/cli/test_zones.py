"""``crowd count`` with zones and lines, on the shipped model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import engine
from engine.cli import main
from engine.errors import ConfigError
from engine.zones.inputs import load_layout
from engine.zones.layout import ZoneLayout
from engine.zones.members import zone_interval

PICTURE = Path(__file__).parent.parent.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture
def zones(tmp_path: Path) -> Path:
    path = tmp_path / "zones.json"
    path.write_text(
        json.dumps(
            {
                "unit": "fractions",
                "zones": {"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]},
                "lines": {"door": [[0, 0.4], [1, 0.4]]},
            }
        )
    )
    return path


def test_zones_in_every_output(zones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = "right=50%,0% 100%,0% 100%,100% 50%,100%"
    command = ["count", str(PICTURE), "--zones", str(zones), "--zone", right, "--json", str(tmp_path / "r.json")]
    assert main([*command, "--csv", str(tmp_path / "r.csv"), "--save", str(tmp_path / "o.png")]) == 0
    with engine.CrowdCounter() as counter:
        result = counter.count(PICTURE, zones=load_layout(zones))
    left, (low, high) = result.zones["left"], result.zone_intervals["left"]
    above, below = result.lines["door"]
    others = result.count - left
    text = capsys.readouterr().out
    assert f", left: {left} ({low}-{high}), right: {others} (" in text
    assert text.endswith(f", door: {above} left, {below} right\n")
    (row,) = csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text()))
    assert list(row)[-9:] == [
        "zone.left", "zone.left.low", "zone.left.high", "zone.right", "zone.right.low", "zone.right.high",
        "line.door.left", "line.door.right", "error",
    ]  # fmt: skip
    assert (row["zone.left"], row["zone.left.high"], row["zone.right"]) == (str(left), str(high), str(others))
    assert (row["line.door.left"], row["line.door.right"]) == (str(above), str(below))
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert entry["zones"] == {"left": left, "right": others}
    assert entry["zone_intervals"]["left"] == [low, high]
    saved, plain = np.asarray(Image.open(tmp_path / "o.png")), np.asarray(result.plot(zones=False))
    drawn = (saved != plain).any(axis=-1)
    height, width = drawn.shape
    # The line from side to side, and the border between the zones from top to bottom.
    assert drawn[round(0.4 * height)].mean() > 0.9
    assert drawn[:, width // 2].mean() > 0.9
    # And not everything else: the heads and the count are those of the picture without zones.
    assert drawn.mean() < 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--zone", "gate=1,2"], "zone 'gate' must be 3 to 1000 corners"),
        (["--zone", "left=1,2 9,2 9,9"], "'left' is given twice"),
        (["--zone", "a=0.1,0.5 0.4,0.5 0.4,1"], "on the command line write 10%,50%"),
        (["--zone", "a=1,2 9,2 9,9", "--zone", "a=1,2 9,2 9,9"], "'a' is given twice"),
        (["--zone", "a=1,2 9%,2 9,9"], "all in percent"),
        (["--line", "left=1,2 9,2"], "name of a zone and of a line"),
        (["--zones", "gone.json"], "cannot read the zones in gone.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_named_before_anything_is_counted(
    arguments: list[str], message: str, zones: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [] if "--zones" in arguments else ["--zones", str(zones)]
    assert main(["count", str(PICTURE), *first, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_python_the_command_line_and_a_file_warn_alike_of_a_zone(tmp_path: Path, capsys) -> None:
    corners = [(0, 0), (640, 0), (0, 480), (640, 480)]
    with engine.CrowdCounter() as counter:
        (warning,) = (w for w in counter.count(PICTURE, zones={"gate": corners}).warnings if "gate" in w)
    assert warning.startswith("zone 'gate' crosses itself")
    (tmp_path / "zones.json").write_text(json.dumps({"zones": {"gate": corners}}))
    text = " ".join(f"{x},{y}" for x, y in corners)
    for options in (["--zone", f"gate={text}"], ["--zones", str(tmp_path / "zones.json")]):
        assert main(["count", str(PICTURE), *options]) == 0
        assert f"warning: {warning}\n" in capsys.readouterr().err


def test_nobody_in_zones_to_ignore_counts_anywhere(tmp_path: Path, capsys) -> None:
    left = [(0, 0), (0.5, 0), (0.5, 1), (0, 1)]
    layout = ZoneLayout.from_polygons({"all": [(0, 0), (1, 0), (1, 1), (0, 1)]}, "fractions", ignore={"poster": left})
    with engine.CrowdCounter() as counter:
        whole = counter.count(PICTURE)
        result = counter.count(PICTURE, zones=layout)
    width, height = whole.image_size
    kept = whole.points[:, 0] >= width / 2
    assert 0 < kept.sum() < whole.count
    assert result.count == kept.sum() == result.zones["all"] == len(result.scores)
    assert np.array_equal(result.points, whole.points[kept])
    assert result.interval == zone_interval(result.count, whole.count, whole.interval)
    assert result.density.sum() == pytest.approx(result.count, abs=1e-3)
    cells = result.heatmap.shape[1] // 2
    assert not result.heatmap[:, : cells - 1].any()
    assert np.array_equal(result.heatmap[:, cells + 1 :], whole.heatmap[:, cells + 1 :])
    (tmp_path / "zones.json").write_text(json.dumps({"unit": "fractions", "ignore": {"poster": left}}))
    for options in (["--ignore", "poster=0%,0% 50%,0% 50%,100% 0%,100%"], ["--zones", str(tmp_path / "zones.json")]):
        assert main(["count", str(PICTURE), *options, "--json", "--save", str(tmp_path / "o.png")]) == 0
        assert json.loads(capsys.readouterr().out)[0]["count"] == result.count
    drawn = np.asarray(Image.open(tmp_path / "o.png").convert("RGB")).astype(int)
    assert (np.abs(drawn[height // 2 :, width // 2 - 1] - 160).max(axis=1) < 40).any(), "no grey outline"


def test_an_ignored_zone_has_a_name_of_its_own() -> None:
    square = [[0, 0], [9, 0], [9, 9]]
    with pytest.raises(ConfigError, match="'a' is to be ignored, and a zone or line too"):
        ZoneLayout.from_dict({"zones": {"a": square}, "ignore": {"a": square}})
    with pytest.raises(ConfigError, match="no such zone"):
        ZoneLayout.from_dict({"ignore": {"a": square}, "alerts": {"a": {"high": 3}}})
