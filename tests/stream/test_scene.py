"""When two frames show the same scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.stream.scene import SAME_SCENE, similarity, thumbnail

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return np.asarray(Image.open(PICTURE).convert("RGB"))


def test_of_a_picture_with_itself_it_is_one_and_with_its_negative_minus_one(street) -> None:
    view = thumbnail(street)
    assert view.shape == (24, 32)
    assert similarity(view, view) == pytest.approx(1)
    assert similarity(view, 255 - view) == pytest.approx(-1)


def test_it_is_the_correlation_coefficient() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 24, 32))
    assert similarity(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_noise_a_pan_and_a_darker_exposure_are_the_same_scene(street) -> None:
    noise = np.random.default_rng(0).normal(0, 10, street.shape)
    others = {
        "noise": np.clip(street + noise, 0, 255).astype(np.uint8)[:, 8:],
        "pan": street[:, 8:],
        "darker": (street * 0.5).astype(np.uint8)[:, 8:],
    }
    for name, other in others.items():
        assert similarity(thumbnail(street[:, :-8]), thumbnail(other)) > SAME_SCENE, name


def test_another_picture_is_another_scene(street) -> None:
    view = thumbnail(street)
    noise = np.random.default_rng(1).integers(0, 256, street.shape, np.uint8)
    for other in (street[::-1], street[:, ::-1], noise, np.zeros_like(street), np.full_like(street, 255)):
        assert similarity(view, thumbnail(other)) < SAME_SCENE


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 3), (96, 128), (500, 301)])
def test_any_size_has_a_view(size) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    assert thumbnail(picture).shape == (24, 32)
    assert 0 <= thumbnail(picture).min() <= thumbnail(picture).max() <= 255
