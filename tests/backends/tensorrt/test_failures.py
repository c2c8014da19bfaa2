"""Who is told of a failure, and when: not before earlier results, and not another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from backends.tensorrt.blobs import picture

from engine.backends.base import Work
from engine.backends.cuda.double_buffer import DoubleBuffer
from engine.backends.registry import create_backend
from engine.backends.tensorrt.inference import Inference, InferenceKey, _not_below
from engine.config import CounterConfig
from engine.diffusion.sampler import Request
from engine.errors import BackendError
from engine.system.stopwatch import Stopwatch

REQUEST = Request(steps=1, samples=1, seed=0, threshold=0.5)


@pytest.fixture
def here(machine):
    return machine()


@pytest.fixture
def backend(here, gpu_bundle):
    with closing(create_backend(gpu_bundle, CounterConfig(model=gpu_bundle.path, device="cuda"))) as backend:
        yield backend


@pytest.fixture
def inference(backend) -> Iterator[Inference]:
    with closing(Inference(backend._runtime, InferenceKey(32, 64, steps=1, samples=1, has_peaks=True))) as inference:
        yield inference


@pytest.mark.parametrize("what", ["load", "upload", "launch"])
def test_a_result_is_not_lost_with_the_next_picture(here, backend, monkeypatch, what) -> None:
    images = [picture(64, 64), picture(32, 64)]
    expected = backend.infer(images[0], REQUEST, Stopwatch())
    real = DoubleBuffer.upload

    def upload(self: DoubleBuffer, array: np.ndarray) -> Any:
        if array.shape == (32, 64, 3):
            raise BackendError("no upload")
        return real(self, array)

    def work() -> Iterator[Work]:
        yield images[0], REQUEST, Stopwatch()
        if what == "load":
            raise BackendError("no load")
        if what == "upload":
            monkeypatch.setattr(DoubleBuffer, "upload", upload)
        else:
            here.api.refuse = {"execute"}
        yield images[1], REQUEST, Stopwatch()

    results = backend.infer_all(work())
    assert np.array_equal(next(results).heatmap, expected.heatmap)
    with pytest.raises(BackendError, match={"launch": "no execute"}.get(what, f"no {what}")):
        next(results)


def _fail_once(monkeypatch: pytest.MonkeyPatch, inference: Inference) -> None:
    real = inference._done.synchronize

    def synchronize() -> None:
        monkeypatch.setattr(inference._done, "synchronize", real)
        raise BackendError("the wait failed")

    monkeypatch.setattr(inference._done, "synchronize", synchronize)


@pytest.mark.parametrize("meanwhile", ["launch", "close"])
def test_a_wait_that_fails_is_its_owners(inference, monkeypatch, meanwhile) -> None:
    """Who launches the next, or closes, waits for a run of another thread."""
    first = inference.launch(REQUEST)
    _fail_once(monkeypatch, inference)
    if meanwhile == "launch":
        second = inference.launch(REQUEST)
        assert inference.finish(second).heatmap.shape == (16, 32)
    else:
        inference.close()
    for _ in range(2):
        with pytest.raises(BackendError, match="the wait failed"):
            inference.finish(first)


def test_a_result_outlives_its_inference(inference) -> None:
    run = inference.launch(REQUEST)
    inference.close()
    assert inference.finish(run).heatmap.shape == (16, 32)


def _set_total(monkeypatch: pytest.MonkeyPatch, inference: Inference, total: int) -> None:
    real: Callable[[], None] = inference._done.synchronize

    def synchronize() -> None:
        real()
        inference._host["total"][0] = total

    monkeypatch.setattr(inference._done, "synchronize", synchronize)


@pytest.mark.parametrize("total", [-1, 129])
def test_a_damaged_number_of_peaks_is_told(inference, monkeypatch, total) -> None:
    run = inference.launch(REQUEST)
    _set_total(monkeypatch, inference, total)
    with pytest.raises(BackendError, match=f"found {total} peaks in a map that has at most 128"):
        inference.finish(run)


@pytest.mark.parametrize("threshold", [0.12, 0.1, 0.3, 0.5, 1 / 3, 0.0])
def test_the_device_compares_as_the_host_does(threshold) -> None:
    limit = _not_below(threshold)
    assert float(limit) >= threshold
    assert float(np.nextafter(limit, np.float32(-np.inf))) < threshold
