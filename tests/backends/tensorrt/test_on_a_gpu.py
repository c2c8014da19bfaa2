"""The real thing: needs a GPU, TensorRT and a default model with segments and kernels for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backends.tensorrt.blobs import same

import engine
from engine.backends.base import Backend, Request, create_backend, why_no_gpu
from engine.bundle import load_bundle
from engine.config import CounterConfig
from engine.images import load_image
from engine.stopwatch import Stopwatch

pytestmark = pytest.mark.gpu
PICTURE = Path(__file__).parents[3] / "examples" / "pictures" / "images" / "pedestrians.jpg"
TYPES = pytest.mark.parametrize("compute_type", ["float16", "bfloat16"])


@pytest.fixture(autouse=True)
def _needs_everything() -> None:
    problem = why_no_gpu(load_bundle("default"), CounterConfig())
    if problem:
        pytest.skip(problem)


@TYPES
def test_a_thousand_replays_are_bit_identical(compute_type) -> None:
    with engine.CrowdCounter(device="cuda", compute_type=compute_type) as counter:
        first = counter.count(PICTURE)
        assert first.count > 0
        image = load_image(PICTURE)
        assert all(same(counter.count(image), first) for _ in range(1000))


@TYPES
def test_the_graph_computes_what_the_plain_methods_do(compute_type) -> None:
    bundle = load_bundle("default")
    backend = create_backend(bundle, CounterConfig(device="cuda", compute_type=compute_type))
    image, request = load_image(PICTURE), Request(steps=3, samples=2, seed=0, threshold=0.1)
    plain = Backend.infer(backend, image, request, Stopwatch())
    ours = backend.infer(image, request, Stopwatch())
    height, width = ours.heatmap.shape
    assert np.array_equal(ours.heatmap, plain.heatmap[:height, :width])
    assert np.array_equal(ours.spread, plain.spread[:height, :width])
    points, scores = backend.find_peaks(ours.heatmap, 0.1)
    assert np.array_equal(ours.peaks[0], points)
    assert np.array_equal(ours.peaks[1], scores)
    backend.close()


def test_batches_of_many_sizes_equal_singles() -> None:
    image = load_image(PICTURE)
    images = [image[: 64 + 32 * (n % 5), : 96 + 32 * (n % 3)] for n in range(30)]
    with engine.CrowdCounter(device="cuda") as counter:
        batch = counter.count_batch(images)
        assert all(same(a, counter.count(b)) for a, b in zip(batch, images, strict=True))


def test_pytorchs_pictures_are_read_where_they_are() -> None:
    torch = pytest.importorskip("torch")
    image = load_image(PICTURE)
    with engine.CrowdCounter(device="cuda") as counter:
        expected = counter.count(image)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            tensor = torch.from_numpy(image).cuda(non_blocking=True)
            for view in (tensor, tensor.permute(2, 0, 1).contiguous()):
                assert same(counter.count(view), expected)
                assert same(counter.count(view, stream=stream), expected)
