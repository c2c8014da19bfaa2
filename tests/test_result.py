"""CountResult: frozen, printable, drawn, saved, and handed to others."""

from __future__ import annotations

import base64
import copy
import csv
import dataclasses
import io
import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.errors import ConfigError, EngineError
from engine.result import CountResult


def make(people: int = 3, *, image: bool = True, **changes: Any) -> CountResult:
    rng = np.random.default_rng(0)
    height, width = 60, 80
    points = (rng.random((people, 2)) * [width, height]).astype(np.float32)
    density = np.zeros((30, 40), np.float32)
    np.add.at(density, tuple((points[:, ::-1] // 2).astype(int).T), 1)
    values: dict[str, Any] = {
        "count": people,
        "points": points,
        "scores": rng.random(people).astype(np.float32),
        "heatmap": np.minimum(density, 1),
        "density": density,
        "uncertainty": rng.random((30, 40)).astype(np.float32),
        "interval": (people, people + 2),
        "zones": {"left": 1},
        "image_size": (width, height),
        "timings": {"load": 1.5},
        "warnings": ("dense",),
        "_image": rng.integers(0, 256, (height, width, 3), dtype=np.uint8) if image else None,
    }
    return CountResult(**{**values, **changes})


@pytest.mark.parametrize(
    ("people", "text"), [(0, "0 people (0-2)"), (1, "1 person (1-3)"), (123, "123 people (123-125)")]
)
def test_text_and_number(people: int, text: str) -> None:
    result = make(people)
    assert str(result) == text
    assert int(result) == people
    assert type(int(make(2, count=np.int64(2)))) is int
    assert len(repr(result)) < 300, "no arrays in it"


def test_it_is_frozen() -> None:
    result = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.count = 4  # type: ignore[misc]
    for name in ("points", "scores", "heatmap", "density", "uncertainty", "_image"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(result, name)[...] = 0


def test_arrays_of_the_caller_stay_writable_and_are_not_copied() -> None:
    points = np.zeros((3, 2), np.float32)
    result = make(points=points)
    assert points.flags.writeable
    assert np.shares_memory(points, result.points)


def test_arrays_are_float32() -> None:
    result = make(points=np.ones((3, 2)), density=np.ones((2, 2)))
    assert result.points.dtype == result.density.dtype == np.float32


@pytest.mark.parametrize("again", [lambda x: pickle.loads(pickle.dumps(x)), copy.copy, copy.deepcopy])
def test_pickles_and_copies(again) -> None:
    for result in (make(), make().without_maps()):
        other = again(result)
        assert other.to_json() == result.to_json()
        assert set(vars(other)) == set(vars(result))
        arrays = [value for value in vars(other).values() if isinstance(value, np.ndarray)]
        assert len(arrays) in (2, 6)
        assert not any(array.flags.writeable for array in arrays)


@pytest.mark.parametrize("people", [0, 1, 50])
def test_json_reads_back(people: int) -> None:
    result = make(people)
    for indent in (None, 2):
        read = json.loads(result.to_json(indent))
        assert read == result.to_dict()
    names = "count interval points scores zones zone_intervals lines image_size timings warnings"
    assert list(read) == names.split()
    np.testing.assert_array_equal(np.array(read["points"], np.float32).reshape(-1, 2), result.points)
    np.testing.assert_array_equal(np.array(read["scores"], np.float32), result.scores)
    assert read["count"] == people
    assert read["interval"] == [people, people + 2]
    assert read["image_size"] == [80, 60]
    assert read["zones"] == {"left": 1}
    assert read["timings"] == {"load": 1.5}
    assert read["warnings"] == ["dense"]


def test_json_takes_numpy_numbers_and_is_short() -> None:
    result = make(
        1,
        count=np.int64(1),
        interval=(np.int64(1), np.int32(2)),
        zones={"a": np.int64(1)},
        timings={"load": np.float32(2)},
        points=np.array([[0.1, 7.3]], np.float32),
    )
    assert '"points":[[0.1,7.3]]' in result.to_json()


def test_plot_layers() -> None:
    result = make()
    plain = np.asarray(result.plot(heatmap=False, points=False))
    pictures = [
        np.asarray(result.plot(heatmap=h, points=p, uncertainty=u))
        for h, p, u in [(True, False, False), (False, True, False), (True, True, False), (False, False, True)]
    ]
    for number, picture in enumerate(pictures):
        assert picture.shape == (60, 80, 3)
        assert (picture != plain).any()
        assert all((picture != other).any() for other in pictures[:number])
    np.testing.assert_array_equal(np.asarray(result.plot(uncertainty=True, points=False)), pictures[3])
    # The banner stays in its corner.
    np.testing.assert_array_equal(plain[30:], result._image[30:])  # type: ignore[index]


def test_plot_on_another_picture() -> None:
    result = make(image=False)
    with pytest.raises(ConfigError, match=r"result\.plot\(image\)"):
        result.plot()
    black = np.zeros((60, 80, 3), np.uint8)
    assert not np.asarray(result.plot(black, heatmap=False, points=False))[40:].any()
    assert result.plot(Image.fromarray(black)).size == (80, 60)
    with pytest.raises(ConfigError, match="80x59"):
        result.plot(black[:59])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp", ".tif", ".tiff"])
def test_save_pictures(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    y, x = np.mgrid[:60, :80]
    result = make(_image=np.stack([x * 3, y * 4, x + y], -1).astype(np.uint8))
    result.save(path)
    with Image.open(path) as image:
        saved = np.asarray(image.convert("RGB")).astype(int)
    drawn = np.asarray(result.plot()).astype(int)
    # JPEG and WebP lose a little at the edges of dots; the others are exact.
    assert np.abs(saved - drawn).mean() < (5 if suffix in (".jpg", ".JPEG", ".webp") else 1e-9)


@pytest.mark.parametrize("people", [0, 7])
def test_save_data(people: int, tmp_path: Path) -> None:
    result = make(people)
    for name in ("r.json", "r.csv", "r.npy"):
        result.save(str(tmp_path / name))
    assert json.loads((tmp_path / "r.json").read_text()) == result.to_dict()
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (tmp_path / "r.csv").read_text().splitlines()[0] == "x,y,score"
    read = np.array([[r["x"], r["y"], r["score"]] for r in rows], np.float32).reshape(-1, 3)
    np.testing.assert_array_equal(read, np.column_stack([result.points, result.scores]))
    density = np.load(tmp_path / "r.npy", allow_pickle=False)
    assert density.dtype == np.float32
    assert density.sum() == people
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.csv", "r.json", "r.npy"]
    for path in tmp_path.iterdir():
        assert result.encode(path.suffix.upper()) == path.read_bytes()


@pytest.mark.parametrize("name", ["out", "out.txt", "out.pkl", ".png"])
def test_unknown_suffixes(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, .*\.npy"):
        make().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        make().save(tmp_path / "gone" / "r.json")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        make().save(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_saving_replaces_a_file_with_the_usual_rights(tmp_path: Path) -> None:
    path, usual = tmp_path / "r.json", tmp_path / "usual"
    usual.touch()
    path.write_text("old")
    make().save(path)
    assert json.loads(path.read_text())["count"] == 3
    assert path.stat().st_mode == usual.stat().st_mode


def test_pictures_too_large_for_a_format(tmp_path: Path) -> None:
    wide = make(image_size=(70000, 1), _image=np.zeros((1, 70000, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"\.png"):
        wide.save(tmp_path / "wide.jpg")
    wide.save(tmp_path / "wide.png")


def test_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    for people in (0, 4):
        result = make(people)
        detections: Any = result.to_supervision()
        assert detections.xyxy.shape == (people, 4)
        assert detections.xyxy.dtype == np.float32
        np.testing.assert_array_equal(detections.xyxy, result.points[:, [0, 1, 0, 1]])
        np.testing.assert_array_equal(detections.confidence, result.scores)
        assert detections.confidence.flags.writeable
        assert detections.class_id.dtype.kind == "i"
        assert detections.class_id.tolist() == [0] * people


def test_supervision_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EngineError, match="pip install supervision"):
        make().to_supervision()


def test_without_maps_a_result_is_small_and_says_what_it_lacks(tmp_path: Path) -> None:
    result = make(10)
    slim = result.without_maps()
    assert slim.to_dict() == result.to_dict()
    assert len(pickle.dumps(slim)) < 2_000 < len(pickle.dumps(result))
    for name in ("heatmap", "density", "uncertainty"):
        assert not hasattr(slim, name)
        with pytest.raises(EngineError, match=f"no {name}.*maps=True"):
            getattr(slim, name)
    with pytest.raises(EngineError, match="maps=True"):
        slim.save(tmp_path / "map.npy")
    with pytest.raises(ConfigError, match="pass it"):
        slim.plot()
    with pytest.raises(EngineError, match="maps=True"):
        slim.plot(np.zeros((60, 80, 3), np.uint8))
    points = slim.plot(np.zeros((60, 80, 3), np.uint8), heatmap=False)
    assert points.tobytes() == result.plot(np.zeros((60, 80, 3), np.uint8), heatmap=False).tobytes()
    assert pickle.loads(pickle.dumps(slim)).to_dict() == slim.to_dict()
    # The one that it was made of has its own.
    assert result.density.sum() == 10
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        slim.colour  # noqa: B018


def test_notebooks_show_the_picture_and_the_numbers() -> None:
    result = make(zones={"<gate>": 1}, lines={"door": (2, 1)}, warnings=("5 < 6",))
    png = result._repr_png_()
    with Image.open(io.BytesIO(png)) as shown:
        assert shown.format == "PNG"
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(result.plot()))
    text = result._repr_html_()
    assert base64.b64encode(png).decode() in text
    for part in ("3 people (3-5)", "&lt;gate&gt;", "2 left, 1 right", "5 &lt; 6"):
        assert part in text
    assert "<gate>" not in text


def test_notebooks_show_large_pictures_smaller_and_none_where_there_is_none() -> None:
    size = (3000, 1500)
    large = make(0, image_size=size, _image=np.zeros((1500, 3000, 3), np.uint8))
    with Image.open(io.BytesIO(large._repr_png_())) as shown:
        assert shown.size == (1200, 600)
    for result in (make(image=False), make().without_maps()):
        assert result._repr_png_() is None
        assert "3 people" in result._repr_html_()
        assert "<img" not in result._repr_html_()
