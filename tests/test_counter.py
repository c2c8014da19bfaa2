"""The public API, end to end on the shipped model."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from same_result import same_result

import engine
from engine.errors import BackendError, BundleError, ConfigError

MANIFEST = Path(__file__).parent.parent / "engine" / "bundle" / "default" / "manifest.json"
PICTURE = Path(__file__).parent.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def counter():
    with engine.CrowdCounter(device="cpu") as counter:
        yield counter


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.asarray(Image.open(PICTURE).convert("RGB"))


def test_every_field_of_a_result_keeps_its_promise(counter, rgb) -> None:
    result = counter.count(PICTURE)
    height, width = rgb.shape[:2]
    assert isinstance(result.count, int)
    assert result.image_size == (width, height)
    assert result.points.shape == (result.count, 2)
    assert result.points.dtype == np.float32
    assert result.scores.shape == (result.count,)
    assert result.scores.dtype == np.float32
    assert (result.points >= 0).all()
    assert (result.points <= [width, height]).all()
    for name in ("heatmap", "density", "uncertainty"):
        values = getattr(result, name)
        assert values.shape == (-(-height // 2), -(-width // 2))
        assert values.dtype == np.float32
        assert (values >= 0).all()
    assert result.heatmap.max() <= 1
    assert result.uncertainty.max() <= 1
    assert result.density.sum(dtype=np.float64) == pytest.approx(result.count, abs=1e-2)
    assert result.interval[0] <= result.count <= result.interval[1]
    assert {"load", "preprocess", "encode", "denoise", "peaks", "total"} <= result.timings.keys()
    assert sum(v for k, v in result.timings.items() if k != "total") == pytest.approx(result.timings["total"])
    assert result.warnings == ()
    assert result.zones == {}


def test_the_same_picture_through_any_input_gives_the_same_result(counter, rgb, tmp_path) -> None:
    torch = pytest.importorskip("torch")
    png = tmp_path / "copy.png"
    Image.fromarray(rgb).save(png)
    planar = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
    expected = counter.count(PICTURE)
    others = {
        "str": str(PICTURE),
        "bytes": PICTURE.read_bytes(),
        "file": io.BytesIO(PICTURE.read_bytes()),
        "png": png,
        "pil": Image.open(PICTURE),
        "array": rgb,
        "strided": np.asfortranarray(rgb),
        "tensor": planar,
        "channels last tensor": planar.permute(1, 2, 0),
        "float tensor": planar.float() / 255,
    }
    for kind, img in others.items():
        assert same_result(counter.count(img), expected), kind
    assert same_result(counter.count(rgb[..., ::-1], color="bgr"), expected)


def test_repeats_are_bit_identical(counter) -> None:
    small = np.asarray(Image.open(PICTURE).crop((0, 0, 256, 192)))
    expected = counter.count(small)
    assert all(same_result(counter.count(small), expected) for _ in range(100))


def test_a_result_without_maps_is_that_with_them(counter) -> None:
    slim, whole = counter.count(PICTURE, maps=False), counter.count(PICTURE)
    assert slim.to_dict() | {"timings": 0} == whole.to_dict() | {"timings": 0}
    assert len(pickle.dumps(slim)) < 2_000 + 20 * whole.count


def test_settings_tell_counters_apart(counter) -> None:
    with engine.CrowdCounter(device="cpu", steps=2, seed=5, compute_type="float32") as other:
        mine, others = counter.settings, other.settings
    assert json.loads(json.dumps(mine)) == mine
    assert (others["steps"], others["seed"], others["compute_type"]) == (2, 5, "float32")
    assert counter.name == json.loads(MANIFEST.read_text())["name"]
    assert mine["model"] == others["model"] == hashlib.sha256(MANIFEST.read_bytes()).hexdigest()
    assert mine != others


def test_threads_share_a_counter(counter, rgb) -> None:
    images = [rgb[:160, 40 * i : 40 * i + 200] for i in range(6)]
    expected = [counter.count(image) for image in images]
    results: dict[int, engine.CountResult] = {}

    def work(i: int) -> None:
        results[i] = counter.count(images[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_result(results[i], expected[i]) for i in range(6))


def test_one_thread_gives_the_same_count(rgb) -> None:
    with (
        engine.CrowdCounter(device="cpu", cpu_threads=1) as one,
        engine.CrowdCounter(device="cpu", cpu_threads=2) as two,
    ):
        assert np.allclose(one.count(rgb).points, two.count(rgb).points, atol=0.5)


def test_steps_and_samples_can_be_chosen_per_call(counter, rgb) -> None:
    crop = rgb[:256, :256]
    maps = {steps: counter.count(crop, steps=steps).heatmap for steps in (1, 2, 3)}
    assert not np.array_equal(maps[1], maps[2])
    assert not np.array_equal(maps[2], maps[3])
    one_step = counter.count(crop, steps=1)
    assert not one_step.uncertainty.any()
    fused = counter.count(crop, steps=1, samples=3)
    assert fused.uncertainty.any()
    with engine.CrowdCounter(device="cpu", steps=2) as two:
        assert np.array_equal(two.count(crop).heatmap, maps[2])


def test_the_seed_changes_the_noise_and_hardly_the_count(counter, rgb) -> None:
    with engine.CrowdCounter(device="cpu", seed=7) as other:
        a, b = counter.count(rgb), other.count(rgb)
    assert not np.array_equal(a.heatmap, b.heatmap)
    assert abs(a.count - b.count) <= max(2, 0.1 * a.count)


def test_zones_split_the_points(counter, rgb) -> None:
    height, width = rgb.shape[:2]
    middle = width / 2
    zones = {
        "left": [(-1, -1), (middle, -1), (middle, height + 1), (-1, height + 1)],
        "right": [(middle, -1), (width + 1, -1), (width + 1, height + 1), (middle, height + 1)],
    }
    result = counter.count(PICTURE, zones=zones)
    assert sum(result.zones.values()) == result.count
    assert result.zones["left"] == int((result.points[:, 0] < middle).sum())


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3), (31, 33), (65, 127), (300, 20)])
def test_any_size_is_counted(counter, size: tuple[int, int]) -> None:
    result = counter.count(np.full((*size, 3), 90, np.uint8))
    assert result.heatmap.shape == (-(-size[0] // 2), -(-size[1] // 2))
    assert bool(result.warnings) == (min(size) < 64)


def test_large_pictures_are_tiled(counter, rgb, monkeypatch) -> None:
    whole = counter.count(rgb)
    plan = engine.counting.stitching.plan_tiles
    monkeypatch.setattr(
        "engine.counting.stitching.plan_tiles", lambda h, w: plan(h, w, max_pixels=500 * 500, side=500, halo=96)
    )
    tiled = counter.count(rgb)
    assert "tiles" in tiled.warnings[0]
    # Tiles see other rows and columns, and other noise: nearly the same heads, not the same bits.
    assert abs(tiled.count - whole.count) <= max(2, 0.15 * whole.count)


def test_results_survive_the_next_count(counter, rgb) -> None:
    first = counter.count(rgb)
    kept = json.dumps(first.to_dict()), first.heatmap.copy(), first.uncertainty.copy()
    counter.count(np.ascontiguousarray(rgb[::-1]))
    assert kept[0] == json.dumps(first.to_dict())
    assert np.array_equal(kept[1], first.heatmap)
    assert np.array_equal(kept[2], first.uncertainty)


def test_numbers_of_numpy_are_integers(counter, rgb) -> None:
    with engine.CrowdCounter(
        device="cpu", steps=np.int64(2), samples=np.uint8(1), seed=np.int32(3), cpu_threads=np.int16(1)
    ) as of_numpy:
        settings = json.loads(json.dumps(of_numpy.settings))
        assert (settings["steps"], settings["samples"], settings["seed"]) == (2, 1, 3)
        once = of_numpy.count(rgb, steps=np.int64(1), samples=np.int64(1), page=np.int32(0))
    with engine.CrowdCounter(device="cpu", steps=1, seed=3, cpu_threads=1) as of_python:
        assert same_result(once, of_python.count(rgb))
    for wrong in (np.float64(1), np.bool_(True), np.array([1, 2]), "1"):
        with pytest.raises(ConfigError, match="steps must be an integer"):
            counter.count(rgb, steps=wrong)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cache_dir": "/tmp/\0x"},
        {"cache_dir": "\ud800"},
        {"cache_dir": b"x"},
        {"model": "a\0b"},
        {"model": None},
        {"device": "gpu"},
        {"device": 0},
        {"backend": "onnx"},
        {"compute_type": "fp8"},
        {"steps": 0},
        {"steps": 2.5},
        {"samples": 0},
        {"seed": -1},
        {"cpu_threads": -1},
        {"cache_dir": 0},
        {"cache_dir": 5},
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(arguments) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        engine.CrowdCounter(**arguments)


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"samples": -2}, {"color": "hsv"}, {"zones": {"a": []}}], ids=str)
def test_call_arguments_out_of_range_are_refused(counter, arguments) -> None:
    with pytest.raises(ConfigError):
        counter.count(np.zeros((64, 64, 3), np.uint8), **arguments)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(BundleError, match="nowhere"):
        engine.CrowdCounter(model="nowhere")
    with pytest.raises(BackendError, match="CPU"):
        engine.CrowdCounter(backend="openvino", device="cuda")
    with pytest.raises(BackendError, match="float16"):
        engine.CrowdCounter(backend="openvino", compute_type="float16")


def test_unreadable_pictures_are_named(counter, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(PICTURE.read_bytes()[:5000])
    with pytest.raises(engine.ImageError, match=r"broken\.jpg"):
        counter.count(tmp_path / "broken.jpg")
