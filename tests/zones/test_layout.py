"""Layouts of zones: from Python, a file or the command line, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from engine.zones.inputs import as_layout, load_layout, parse_alert, parse_shape
from engine.zones.layout import Alert, Shape, ZoneLayout

SQUARE = [(0, 0), (6, 0), (6, 6), (0, 6)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"zones": {"a": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}}, "single pixel.*fractions"),
        ({"unit": "fractions", "zones": {"a": [[0, 0], [100, 0], [0, 100]]}}, "from 0 to 1"),
        ({"unit": "fractions", "zones": {"a": [[0, 0], [1, 0], [0, -0.1]]}}, "from 0 to 1"),
        ({"unit": "percent", "zones": {}}, 'unit must be "pixels" or "fractions"'),
        ({"unit": ["pixels"]}, "unit must be"),
        ({"zone": {}}, "'zone'; known are 'alerts', 'ignore', 'lines', 'unit', 'zones'"),
        ({"zones": [[0, 0], [9, 0], [9, 9]]}, '"zones" must be an object'),
        ([], "must be an object"),
        ({"zones": {"": SQUARE}}, "name must be"),
        ({"zones": {"a\nb": SQUARE}}, "printable"),
        ({"zones": {"x" * 101: SQUARE}}, "1 to 100"),
        ({"zones": {"total": SQUARE}}, "whole picture"),
        ({"zones": {"a": SQUARE}, "lines": {"a": [[0, 0], [9, 9]]}}, "name of a zone and of a line"),
        ({"lines": {"a": [[3, 3], [3, 3]]}}, "line 'a' has all its corners in one place"),
        ({"lines": {"a": SQUARE}}, "line 'a' must be 2 corners"),
        ({"zones": {"a": SQUARE}, "alerts": {"b": {"high": 3}}}, "no such zone; zones: 'a'"),
        ({"alerts": {"total": {"high": 3, "low": 3}}}, "low < high"),
        ({"alerts": {"total": {"high": 3, "low": -1}}}, "low < high"),
        ({"alerts": {"total": {"high": 3.5}}}, "whole numbers"),
        ({"alerts": {"total": {"high": True}}}, "whole numbers"),
        ({"alerts": {"total": {}}}, "whole numbers"),
        ({"alerts": {"total": {"hihg": 3}}}, "'hihg'"),
        ({"alerts": {"total": 5}}, "must be an object"),
        ({"zones": {f"z{i}": SQUARE for i in range(1001)}}, "at most 1000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layouts_that_are_none_are_refused(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        ZoneLayout.from_dict(data)
    path = tmp_path / "zones.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=rf"zones\.json.*({message})"):
        load_layout(path)


def test_a_layout_from_a_file(tmp_path: Path) -> None:
    data = {
        "unit": "fractions",
        "zones": {"gate": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], "Süd 2": [[0.5, 0], [1, 0], [1, 1]]},
        "lines": {"door": [[0, 0.5], [1, 0.5]]},
        "alerts": {"gate": {"high": 50, "low": 30}, "total": {"high": 9}},
    }
    path = tmp_path / "zones.json"
    path.write_text(json.dumps(data), encoding="utf-8-sig")
    layout = as_layout(path)
    assert layout == as_layout(str(path)) == ZoneLayout.from_dict(data)
    assert list(layout.zones) == ["gate", "Süd 2"]
    assert layout.zone_corners((200, 100))["gate"].tolist() == [[0, 0], [100, 0], [100, 100], [0, 100]]
    assert layout.line_ends((200, 100))["door"].tolist() == [[0, 50], [200, 50]]
    assert layout.alerts == {"gate": Alert(50, 30), "total": Alert(9, 7)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"zones": {"a": [[0,0],[9,0],[9,9]], "a": [[0,0],[9,0],[9,9]]}}', "'a' is there twice"),
        ('{"zones": {"a": [[0,0],[NaN,0],[9,9]]}}', "finite"),
        ("\xff\xfe", "is not JSON"),
        (" " * (65 << 20), "larger than 64 MiB"),
    ],
)
def test_files_that_are_none_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "zones.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        load_layout(path)
    with pytest.raises(ConfigError, match=r"cannot read the zones in .*gone"):
        load_layout(tmp_path / "gone.json")


def test_zones_of_the_command_line() -> None:
    assert parse_shape("gate=100,200 400,200 400,480.5") == ("gate", Shape(((100, 200), (400, 200), (400, 480.5))))
    name, shape = parse_shape("a=b=10%,40% 50%,40% 50%,100%")
    assert name == "a=b"
    assert shape.to_pixels(200, 100).tolist() == [[20, 40], [100, 40], [100, 100]]
    assert parse_alert("gate=50:40") == ("gate", Alert(50, 40))
    for bad in ("gate", "=1,2 3,4", "gate=", "gate=1,2,3", "gate=1 2", "gate=a,b", "gate=1,2%", "gate=nan,1", "g=1,,2"):
        with pytest.raises(ConfigError, match="got"):
            parse_shape(bad)
    for bad in ("gate", "gate=", "gate=5:", "gate=-5", "=5", "gate=5:9", "gate=5:5", "gate=" + "9" * 5000):
        with pytest.raises(ConfigError):
            parse_alert(bad)


def test_other_things_than_zones_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"zones must be polygons by name.*got list"):
        as_layout([SQUARE])  # type: ignore[arg-type]
    assert as_layout(None) == ZoneLayout()
