"""The shipped model on pictures whose count is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from int8_bundle import NEEDS_INT8
from PIL import Image, ImageFilter

import engine
from engine.bundle.bundle import load_bundle
from engine.training.negatives import empty_picture

PICTURES = Path(__file__).parents[2] / "examples" / "pictures"


@pytest.fixture(scope="module")
def counter():
    with engine.CrowdCounter(device="cpu") as counter:
        yield counter


def test_the_sample_picture_is_counted(counter) -> None:
    true = np.array(json.loads((PICTURES / "points.json").read_text())["pedestrians.jpg"])
    result = counter.count(PICTURES / "images" / "pedestrians.jpg")
    assert abs(result.count - len(true)) <= 2
    # Most heads are where they were marked by hand, within 12 pixels (a head is about 15 high).
    nearest = np.linalg.norm(result.points[:, None] - true[None], axis=2).min(axis=0)
    assert (nearest <= 12).sum() >= len(true) - 3


@pytest.mark.parametrize("steps", [1, 3, 5, 10])
def test_any_number_of_steps_finds_the_same_people(counter, steps: int) -> None:
    picture = PICTURES / "images" / "pedestrians.jpg"
    expected = counter.count(picture).points
    found = counter.count(picture, steps=steps).points
    assert abs(len(found) - len(expected)) <= 1
    assert np.linalg.norm(expected[:, None] - found[None], axis=2).min(axis=1).max() < 3


@pytest.mark.parametrize("level", [0, 64, 128, 255])
def test_blank_pictures_hold_nobody(counter, level: int) -> None:
    assert counter.count(np.full((480, 640, 3), level, np.uint8)).count == 0


def test_noise_and_gradients_hold_nobody(counter) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    sky = np.linspace(90, 250, 480)[:, None, None] * np.ones((1, 640, 3)) * [0.7, 0.85, 1.0]
    assert counter.count(noise).count == 0
    assert counter.count(sky.astype(np.uint8)).count == 0


def test_generated_pictures_hold_nobody(counter) -> None:
    counts = [counter.count(empty_picture(512, np.random.default_rng((1, number)))).count for number in range(50)]
    # docs/model_card.md says how many of a thousand others the shipped model is wrong about.
    assert not any(counts)


def test_a_picture_unlike_the_calibration_ones_is_marked(counter) -> None:
    picture = Image.open(PICTURES / "images" / "pedestrians.jpg").convert("RGB")
    assert not counter.count(picture).warnings
    # Heads of twice the size, out of focus.
    enlarged = picture.resize((2 * picture.width, 2 * picture.height)).filter(ImageFilter.GaussianBlur(4))
    (warning,) = counter.count(enlarged).warnings
    assert "unlike those that the model was calibrated on" in warning


def test_the_bundle_is_small_and_calibrated() -> None:
    bundle = load_bundle("default")
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) <= 16 * 2**20
    assert {1, 2, 3} <= bundle.counting.keys()


@NEEDS_INT8
def test_int8_finds_the_same_people() -> None:
    """Where float32 and int8 differ at all, it is by a head at the threshold."""
    results = []
    for compute_type in ("float32", "int8"):
        with engine.CrowdCounter(backend="openvino", compute_type=compute_type) as counter:
            results.append(counter.count(PICTURES / "images" / "pedestrians.jpg"))
    exact, quantised = results
    assert abs(quantised.count - exact.count) <= 1
    assert np.abs(quantised.heatmap - exact.heatmap).max() < 0.25
    distances = np.linalg.norm(exact.points[:, None] - quantised.points[None], axis=2).min(axis=1)
    assert (distances < 8).sum() >= exact.count - 1
