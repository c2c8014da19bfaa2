"""The suite's GPU part on a simulated driver whose kernels compute: graphs replayed, events read, results checked."""

from __future__ import annotations

import numpy as np
import pytest
from backends.tensorrt import simulated_gpu
from suite.gpu import gpu_attention, gpu_ddim, gpu_peaks
from suite.peaks import crowd_map

from engine.backends.cuda.driver import Driver
from engine.bundle import load_bundle
from engine.errors import BackendError
from engine.kernels import reference


@pytest.fixture
def gpu(monkeypatch):
    # Of the shipped model's decoder.
    monkeypatch.setattr(simulated_gpu, "DEPTH", 32)
    monkeypatch.setattr(simulated_gpu, "CHANNELS", 64)
    made = simulated_gpu.SimulatedGpu(load_bundle("default").model)
    yield made
    made.assert_clean()


def _halves(rng, *shape):
    return rng.standard_normal(shape).astype(np.float16).astype(np.float32)


def test_attention_is_recorded_replayed_and_right(gpu):
    rng = np.random.default_rng(0)
    q, k, v = _halves(rng, 1, 3, 5, 32) / 8, _halves(rng, 1, 3, 5, 32), _halves(rng, 1, 3, 5, 64)
    way = gpu_attention("float16", q, k, v, driver=Driver(gpu))
    expected = reference.criss_cross_attention(q, k, v)
    np.testing.assert_allclose(way.call(), expected, atol=2.5e-3)
    # The first call was plain; now it is a graph.
    assert "cuGraphLaunch" not in gpu.names()
    np.testing.assert_allclose(way.call(), expected, atol=2.5e-3)
    before = gpu.names().count("cuGraphLaunch")
    milliseconds = way.stint(7)
    assert milliseconds >= 0
    # One to warm up, seven between the events.
    assert gpu.names().count("cuGraphLaunch") == before + 8
    assert gpu.names().count("cuGraphInstantiate") == 1
    way.close()
    way.close()


def test_ddim_update_is_one_step_when_it_is_checked(gpu):
    rng = np.random.default_rng(1)
    arrays = _halves(rng, 1, 16, 2, 3), *(rng.standard_normal((1, 16, 2, 3)).astype(np.float32) for _ in range(3))
    coefficients = (0.5, 0.8, 0.9, 0.4, 0.25, 0.5)
    way = gpu_ddim("float16", arrays, coefficients, driver=Driver(gpu))
    for found, expected in zip(way.call(), reference.ddim_update(*arrays, coefficients), strict=True):
        np.testing.assert_allclose(found, expected, rtol=5e-4, atol=1e-6)
    way.close()


def test_peaks(gpu):
    heatmap = crowd_map(20, 30, 6)
    way = gpu_peaks(heatmap, driver=Driver(gpu))
    points, scores = reference.find_peaks(heatmap, 0.1)
    found = way.call()
    assert len(scores) > 1
    np.testing.assert_array_equal(found[0], points)
    np.testing.assert_array_equal(found[1], scores)
    way.close()


def test_without_a_driver_it_says_what_is_missing(monkeypatch):
    def no_driver():
        raise BackendError("no NVIDIA driver: install the driver")

    monkeypatch.setattr("engine.backends.cuda.context.load_driver", no_driver)
    with pytest.raises(BackendError, match="install the driver"):
        gpu_peaks(np.zeros((4, 4), np.float32))
