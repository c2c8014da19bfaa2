"""Batches of pictures, end to end on the shipped model."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from same_result import same_result

import engine
from engine.errors import ConfigError, ImageError

PICTURE = Path(__file__).parent.parent / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def counter():
    with engine.CrowdCounter(device="cpu") as counter:
        yield counter


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.asarray(Image.open(PICTURE).convert("RGB"))


def test_a_batch_of_mixed_sizes_equals_singles(counter, rgb) -> None:
    images = [rgb, rgb[:200, :300], rgb[::2, ::2], rgb[50:120, 60:100]]
    batch = counter.count_batch(images, steps=2)
    assert all(same_result(a, counter.count(b, steps=2)) for a, b in zip(batch, images, strict=True))
    assert counter.count_batch([]) == []


@pytest.mark.parametrize("performance", ["balanced", "throughput"])
def test_a_batch_keeps_the_errors_of_its_pictures(rgb, performance: str) -> None:
    small = np.ascontiguousarray(rgb[:128, :160])
    bad: list[Any] = [b"no picture", "missing.jpg", np.zeros((2, 2, 7), np.uint8)]
    pictures = [small, bad[0], PICTURE, bad[1], bad[2], small]
    with engine.CrowdCounter(device="cpu", performance=performance) as counter:
        kept = counter.count_batch(pictures, on_error="keep", maps=False)
        expected = counter.count_batch([small, PICTURE], maps=False)
        with pytest.raises(ImageError):
            counter.count_batch(pictures)
        with pytest.raises(ConfigError, match=r"on_error must be one of raise, keep, got 'skip'"):
            counter.count_batch(pictures, on_error="skip")
        with pytest.raises(RuntimeError, match="of the iterable"):
            counter.count_batch(_failing(small), on_error="keep")
    assert [type(x).__name__ for x in kept] == [
        "CountResult",
        "ImageError",
        "CountResult",
        *["ImageError"] * 2,
        "CountResult",
    ]
    for result, same in zip([kept[0], kept[2], kept[5]], [expected[0], expected[1], expected[0]], strict=True):
        assert result.to_dict() | {"timings": 0} == same.to_dict() | {"timings": 0}
        assert not hasattr(result, "density")


def _failing(picture: np.ndarray) -> Iterator[np.ndarray]:
    yield picture
    raise RuntimeError("of the iterable")


ONE_PICTURE = [str(PICTURE), PICTURE, PICTURE.read_bytes(), io.BytesIO(), np.zeros((8, 8, 3)), Image.new("L", (8, 8))]


def test_a_batch_of_one_buffer_that_is_filled_again_and_again(rgb) -> None:
    """As OpenCV reads a video; pictures that are counted at once are taken ahead of those that are done."""
    frames = [np.roll(rgb[:128, :192], 40 * i, axis=1) for i in range(6)]

    def read():
        buffer = np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            yield buffer
            buffer[:] = 0

    with engine.CrowdCounter(device="cpu", performance="throughput", cpu_threads=2) as counter:
        assert counter.parallel == 2
        results = counter.count_batch(read(), color="bgr")
        assert all(same_result(a, counter.count(b, color="bgr")) for a, b in zip(results, frames, strict=True))


@pytest.mark.parametrize("picture", ONE_PICTURE, ids=lambda x: type(x).__name__)
def test_a_single_picture_is_no_batch(counter, picture) -> None:
    """Its rows, or the letters of its path, are not counted."""
    with pytest.raises(ConfigError, match="put a single picture into a list"):
        counter.count_batch(picture)


def test_an_array_of_pictures_is_a_batch(counter, rgb) -> None:
    results = counter.count_batch(np.stack([rgb[:96, :128], rgb[-96:, -128:]]))
    assert [r.count for r in results] == [counter.count(rgb[:96, :128]).count, counter.count(rgb[-96:, -128:]).count]


def test_an_array_of_paths_is_a_batch(counter) -> None:
    assert [r.count for r in counter.count_batch(np.array([str(PICTURE)] * 2))] == [counter.count(PICTURE).count] * 2
