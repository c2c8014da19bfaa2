"""JSON lines, CSV and maps: every frame reads back, and lines are there at once."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from stream_frames import counted_frame

from engine.errors import ConfigError
from engine.outputs.rate_meter import RateMeter
from engine.outputs.records import FrameCsv, JsonLines, MapFolder
from engine.zones.layout import ZoneLayout

LAYOUT = ZoneLayout.from_dict(
    {
        "unit": "fractions",
        "zones": {"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], "count": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]},
        "lines": {"level, half": [[0, 0.5], [1, 0.5]]},
        "alerts": {"left": {"high": 2, "low": 0}, "total": {"high": 9}},
    }
)


def test_json_lines() -> None:
    text = io.StringIO()
    writer = JsonLines(text)
    frames = [counted_frame(i, layout=LAYOUT, dropped=i) for i in range(3)]
    for number, frame in enumerate(frames):
        writer.write(frame, ["left"] if number else [])
        assert text.getvalue().count("\n") == number + 1
    read = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [row.pop("alerts") for row in read] == [[], ["left"], ["left"]]
    assert read == [frame.to_dict() for frame in frames]
    assert read[2]["zones"] == {"left": 1, "count": 1}
    assert read[2]["index"] == read[2]["dropped"] == 2


def test_csv() -> None:
    text = io.StringIO()
    writer = FrameCsv(text, LAYOUT)
    assert text.getvalue().count("\n") == 1
    writer.write(counted_frame(0, layout=LAYOUT))
    writer.write(counted_frame(7, 0.1 + 0.2, [(3, 40), (4, 40), (5, 2)], layout=LAYOUT, dropped=6), ["left"])
    first, second = csv.DictReader(io.StringIO(text.getvalue()))
    assert first["zone.left"] == first["zone.count"] == "1"
    result = counted_frame(0, 0, [(3, 40), (4, 40), (5, 2)], layout=LAYOUT).result
    low, high = result.zone_intervals["left"]
    assert second == {
        "file": "", "index": "7", "timestamp": "0.3", "time": "", "dropped": "6", "count": "3", "low": "2", "high": "5",
        "zone.left": "3", "zone.left.low": str(low), "zone.left.high": str(high),
        "zone.count": "0", "zone.count.low": "0", "zone.count.high": str(result.zone_intervals["count"][1]),
        "line.level, half.left": "1", "line.level, half.right": "2", "alert.left": "1", "alert.total": "0",
    }  # fmt: skip


def test_csv_without_zones() -> None:
    text = io.StringIO()
    FrameCsv(text).write(counted_frame(1))
    assert text.getvalue() == "file,index,timestamp,time,dropped,count,low,high\n,1,0.1,,0,2,1,4\n"


def test_maps(tmp_path: Path) -> None:
    maps = MapFolder(tmp_path / "maps")
    for index in (0, 12):
        maps.write(counted_frame(index))
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == ["frame-000000.npy", "frame-000012.npy"]
    density = np.load(tmp_path / "maps" / "frame-000012.npy", allow_pickle=False)
    assert density.dtype == np.float32
    assert density.sum() == 2
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        MapFolder(tmp_path / "file")
    with pytest.raises(ConfigError, match="does not exist"):
        MapFolder(tmp_path / "gone" / "maps")


def test_the_rate_is_that_of_the_last_frames() -> None:
    now = 0.0
    meter = RateMeter(lambda: now)
    rates = []
    for step in [1.0] * 40 + [0.1] * 40:
        now += step
        rates.append(meter.update())
    assert rates[0] is None
    assert rates[39] == pytest.approx(1)
    assert rates[-1] == pytest.approx(10)
    assert RateMeter(lambda: 5.0).update() is None
