"""The suite's GPU part: graphs that are timed, and what it says where there is no GPU.

The kernels that it runs are compared with their oracles in tests/kernels/gpu/test_compiled.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from backends.tensorrt.simulated_gpu import SimulatedGpu
from suite.gpu import gpu_ddim, gpu_peaks
from suite.peaks import crowd_map

from engine.bundle.bundle import load_bundle
from engine.errors import BackendError
from engine.kernels import reference


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    made = SimulatedGpu(load_bundle("default").model)
    yield made
    made.assert_clean()


@pytest.mark.usefixtures("gpu")
def test_a_way_gives_the_same_plainly_and_as_a_graph() -> None:
    heatmap = crowd_map(301, 77, 90)
    way = gpu_peaks(heatmap)
    points, scores = reference.find_peaks(heatmap, 0.1)
    assert len(scores) > 1
    # Plainly, then after a graph of many runs.
    for _ in range(2):
        found = way.call()
        np.testing.assert_array_equal(found[0], points)
        np.testing.assert_array_equal(found[1], scores)
        assert way.stint(1) > 0
    way.close()
    way.close()


def test_graphs_of_many_runs_are_timed(gpu) -> None:
    arrays = tuple(np.zeros((1, 16, 1, 1), np.float32) for _ in range(4))
    way = gpu_ddim("float16", arrays, (0.5, 0.8, 0.9, 0.4, 0.25, 0.5))
    way.call()
    # The first call was plain; now it is a graph.
    assert "cuGraphLaunch" not in gpu.names()
    way.call()
    assert gpu.names().count("cuGraphLaunch") == 1
    assert len(gpu.launches) == 2
    # The simulated device takes 1.5 ms between any two events.
    for times, launches, recorded in ((120, 3, 50), (7, 1, 0)):
        gpu.calls.clear()
        gpu.launches.clear()
        assert way.stint(times) == pytest.approx(1.5 * times / (50 * launches))
        names = [name for name in gpu.names() if name in ("cuGraphLaunch", "cuEventRecord")]
        # One to warm up, the others between the events.
        assert names == ["cuGraphLaunch", "cuEventRecord", *["cuGraphLaunch"] * launches, "cuEventRecord"]
        assert len(gpu.launches) == recorded
    way.close()


def test_without_a_driver_it_says_what_is_missing(monkeypatch) -> None:
    def no_driver():
        raise BackendError("no NVIDIA driver: install the driver")

    monkeypatch.setattr("engine.backends.cuda.context.load_driver", no_driver)
    with pytest.raises(BackendError, match="install the driver"):
        gpu_peaks(np.zeros((4, 4), np.float32))
