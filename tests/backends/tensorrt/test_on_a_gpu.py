"""The real thing: needs a GPU, TensorRT and a default model with segments and kernels for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same_result import same_result

import engine
from engine.backends.registry import create_backend, why_no_gpu
from engine.bundle.bundle import load_bundle
from engine.config import CounterConfig
from engine.diffusion.sampler import Request, infer
from engine.image.load import load_image
from engine.system.stopwatch import Stopwatch

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
        assert all(same_result(counter.count(image), first) for _ in range(1000))


@TYPES
def test_the_graph_computes_what_the_eager_network_does(compute_type) -> None:
    bundle = load_bundle("default")
    backend = create_backend(bundle, CounterConfig(device="cuda", compute_type=compute_type))
    image, request = load_image(PICTURE), Request(steps=3, samples=2, seed=0, threshold=0.1)
    with backend.network() as network:
        eager = infer(network, image, request, Stopwatch())
    ours = backend.infer(image, request, Stopwatch())
    height, width = ours.heatmap.shape
    assert np.array_equal(ours.heatmap, eager.heatmap[:height, :width])
    assert np.array_equal(ours.spread, eager.spread[:height, :width])
    points, scores = backend.find_peaks(ours.heatmap, 0.1)
    assert np.array_equal(ours.peaks[0], points)
    assert np.array_equal(ours.peaks[1], scores)
    backend.close()


def test_batches_of_many_sizes_equal_singles() -> None:
    image = load_image(PICTURE)
    images = [image[: 64 + 32 * (n % 5), : 96 + 32 * (n % 3)] for n in range(30)]
    with engine.CrowdCounter(device="cuda") as counter:
        batch = counter.count_batch(images)
        assert all(same_result(a, counter.count(b)) for a, b in zip(batch, images, strict=True))


def test_pictures_are_read_where_they_are_once_they_are_there() -> None:
    torch = pytest.importorskip("torch")
    image = load_image(PICTURE)
    pinned, stream = torch.from_numpy(image).pin_memory(), torch.cuda.Stream()
    with engine.CrowdCounter(device="cuda") as counter:
        expected = counter.count(image)
        for view in (lambda x: x, lambda x: x.permute(2, 0, 1).contiguous(), lambda x: _Interface(x, stream)):
            for given in (None, stream):
                tensor = torch.zeros(image.shape, dtype=torch.uint8, device="cuda")
                torch.cuda.synchronize()
                with torch.cuda.stream(stream):
                    # Some hundredths of a second, in which a count that does not wait finds nobody.
                    torch.cuda._sleep(50_000_000)
                    tensor.copy_(pinned, non_blocking=True)
                    assert same_result(counter.count(view(tensor), stream=given), expected)


def test_views_and_both_orders_of_the_channels() -> None:
    torch = pytest.importorskip("torch")
    image = load_image(PICTURE)
    tensor = torch.from_numpy(image).cuda()
    with engine.CrowdCounter(device="cuda") as counter:
        for rows, columns in ((slice(None), slice(3, 301)), (slice(5, None, 2), slice(0, None, 2))):
            part = tensor[rows, columns]
            assert not part.is_contiguous()
            assert same_result(counter.count(part), counter.count(image[rows, columns]))
        assert same_result(counter.count(tensor.flip(2), color="bgr"), counter.count(image))


def test_a_large_picture_on_the_device_is_counted_in_tiles(monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    plan = engine.counting.stitching.plan_tiles
    monkeypatch.setattr(
        "engine.counting.stitching.plan_tiles", lambda h, w: plan(h, w, max_pixels=128 * 128, side=192, halo=32)
    )
    image = load_image(PICTURE)
    with engine.CrowdCounter(device="cuda") as counter:
        result = counter.count(torch.from_numpy(image).cuda())
        assert any("tiles" in warning for warning in result.warnings)
        assert same_result(result, counter.count(image))


@pytest.mark.parametrize("how", ["batch", "stream"])
def test_one_buffer_may_hold_all_pictures_in_turn(how) -> None:
    torch = pytest.importorskip("torch")
    picture = load_image(PICTURE)
    images = [np.roll(picture, 40 * n, axis=1) for n in range(6)]
    pinned = [torch.from_numpy(image).pin_memory() for image in images]

    def reused() -> Iterator[Any]:
        tensor = torch.zeros(picture.shape, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            for each in pinned:
                # What reads the tensor too early finds the picture before.
                torch.cuda._sleep(20_000_000)
                tensor.copy_(each, non_blocking=True)
                yield tensor

    with engine.CrowdCounter(device="cuda") as counter:
        expected = [counter.count(image) for image in images]
        if how == "batch":
            results = counter.count_batch(reused())
        else:
            results = [frame.result for frame in counter.stream(reused())]
        assert all(same_result(a, b) for a, b in zip(results, expected, strict=True))


def test_two_threads_share_a_counter() -> None:
    image = load_image(PICTURE)
    images = [image[: 64 + 32 * (n % 3)] for n in range(12)]
    with engine.CrowdCounter(device="cuda") as counter:
        expected = [counter.count(x) for x in images]
        with ThreadPoolExecutor(2) as pool:
            batches = pool.map(lambda _: [counter.count_batch(images) for _ in range(5)], range(2))
            for batch in (batch for each in batches for batch in each):
                assert all(same_result(a, b) for a, b in zip(batch, expected, strict=True))


class _Interface:
    """As PyCUDA's arrays are: no DLPack."""

    def __init__(self, tensor: Any, stream: Any):
        self._tensor = tensor
        self.__cuda_array_interface__ = {**tensor.__cuda_array_interface__, "stream": stream.cuda_stream}
