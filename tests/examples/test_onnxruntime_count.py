"""The example that counts with ONNX Runtime alone, against the engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnxruntime_example import EXAMPLE, load_example
from PIL import Image, ImageOps

import engine
from engine.bundle.bundle import load_bundle

ROOT = Path(__file__).parents[2]
BUNDLE = load_bundle("default").path
PICTURE = ROOT / "examples" / "pictures" / "images" / "pedestrians.jpg"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("onnxruntime", reason="ONNX Runtime comes with the export extra")
    return load_example()


@pytest.fixture(scope="module")
def counter():
    with engine.CrowdCounter(device="cpu", backend="openvino", compute_type="float32") as counter:
        yield counter


def thirty_pictures() -> list[Image.Image]:
    """Parts of the sample picture, of many sizes, mirrored, and laid side by side."""
    whole = Image.open(PICTURE).convert("RGB")
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(30):
        width, height = (int(side) for side in rng.integers(100, 400, 2))
        left, top = (int(rng.integers(0, end - side)) for end, side in zip(whole.size, (width, height), strict=True))
        part = whole.crop((left, top, left + width, top + height))
        if number % 3 == 1:
            part = ImageOps.mirror(part)
        if number % 3 == 2:
            part = Image.fromarray(np.hstack([np.asarray(part)] * 2))
        pictures.append(part)
    return pictures


def test_thirty_pictures_count_as_in_the_engine(example, counter):
    counts = []
    for picture in thirty_pictures():
        found, expected = example.count(BUNDLE, np.asarray(picture)), counter.count(picture)
        assert len(found) == expected.count
        np.testing.assert_allclose(found, expected.points, atol=0.1)
        counts.append(len(found))
    # The comparison would say nothing of pictures without people.
    assert sum(counts) > 60
    assert len(set(counts)) > 5


@pytest.mark.parametrize("size", [(1, 1), (33, 31), (64, 1)])
def test_the_smallest_pictures(size, example, counter):
    pixels = np.asarray(Image.open(PICTURE).convert("RGB").crop((300, 200, 300 + size[0], 200 + size[1])))
    np.testing.assert_allclose(example.count(BUNDLE, pixels), counter.count(pixels).points, atol=0.1)


def test_larger_pictures_are_refused(example):
    with pytest.raises(SystemExit, match="larger than 4194304 pixels; make it smaller, or cut it into tiles"):
        example.count(BUNDLE, np.zeros((2048, 2049, 3), np.uint8))


def test_the_command_line(example, counter):
    command = [sys.executable, "-P", str(EXAMPLE), str(BUNDLE), str(PICTURE)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    points = counter.count(PICTURE).points
    assert lines[0] == f"{len(points)} people"
    np.testing.assert_allclose([[float(x) for x in line.split(",")] for line in lines[1:]], points, atol=0.15)


def test_it_needs_no_engine_and_under_a_hundred_lines():
    source = EXAMPLE.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 100
    assert "import engine" not in source
    assert "from engine" not in source
