"""The suite's GPU part, and with it the kernels that ship: on a GPU, and on a stand-in whose kernels compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from backends.tensorrt import simulated_gpu
from suite.gpu import Gpu, gpu_attention, gpu_ddim, gpu_peaks
from suite.peaks import crowd_map
from tolerances import GPU_KERNELS, Tolerance

from engine.backends.cuda.arrays import from_storage, to_storage
from engine.bundle.bundle import load_bundle
from engine.diffusion.latent import head_maps
from engine.errors import BackendError
from engine.image.tiles import to_input
from engine.kernels import reference


@dataclass(frozen=True)
class Device:
    """What the kernels run on, in which type."""

    dtype: str

    def halves(self, values: np.ndarray) -> np.ndarray:
        """The nearest values that the device can hold."""
        return from_storage(to_storage(values, self.dtype), self.dtype)

    def tolerance(self, kernel: str) -> Tolerance:
        return GPU_KERNELS[kernel, f"torch.{self.dtype}"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[simulated_gpu.SimulatedGpu]:
    # Shapes of the shipped model's decoder.
    monkeypatch.setattr(simulated_gpu, "DEPTH", 32)
    monkeypatch.setattr(simulated_gpu, "CHANNELS", 64)
    made = simulated_gpu.SimulatedGpu(load_bundle("default").model)
    yield made
    made.assert_clean()


@pytest.fixture(
    params=["simulated", *(pytest.param(dtype, marks=pytest.mark.gpu) for dtype in ("float16", "bfloat16"))]
)
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "simulated":
        request.getfixturevalue("gpu")
        return Device("float16")
    return Device(request.param)


def _assert_close(found: np.ndarray, expected: np.ndarray, tolerance: Tolerance) -> None:
    np.testing.assert_allclose(found, expected, atol=tolerance.absolute, rtol=tolerance.relative)


# Less than a block each way, and rows and columns of several.
@pytest.mark.parametrize(("height", "width"), [(3, 5), (70, 130)])
def test_attention(device, height, width) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (
        device.halves(rng.standard_normal((1, height, width, n)) * f) for n, f in ((32, 1 / 8), (32, 1), (64, 1))
    )
    way = gpu_attention(device.dtype, q, k, v)
    expected = reference.criss_cross_attention(q, k, v)
    # Plainly, then as a graph.
    for _ in range(2):
        _assert_close(way.call(), expected, device.tolerance("criss_cross_attention"))
    way.close()
    way.close()


@pytest.mark.parametrize("shape", [(1, 16, 2, 3), (1, 16, 19, 23)])
def test_ddim_update_is_one_step_when_it_is_checked(device, shape) -> None:
    rng = np.random.default_rng(1)
    arrays = (device.halves(rng.standard_normal(shape)), *(rng.standard_normal((3, *shape)).astype(np.float32)))
    coefficients = (0.5, 0.8, 0.9, 0.4, 0.25, 0.5)
    way = gpu_ddim(device.dtype, arrays, coefficients)
    results = way.call(), reference.ddim_update(*arrays, coefficients)
    for found, expected, dtype in zip(*results, (device.dtype, "float32", "float32"), strict=True):
        _assert_close(found, expected, GPU_KERNELS["ddim_update", f"torch.{dtype}"])
    way.close()


@pytest.mark.parametrize(("height", "width", "people"), [(20, 30, 6), (301, 77, 90)])
def test_peaks(device, height, width, people) -> None:
    heatmap = crowd_map(height, width, people)
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


# One pixel, and rows longer than a block of the kernel's.
@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 72), (33, 301)])
def test_preprocess(device, height, width) -> None:
    model = load_bundle("default").model
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), np.uint8)
    kernels = Gpu(device.dtype, load_bundle("default"))
    image = kernels.memory.upload(pixels, "uint8")
    # From the first channel on, and from the last one backwards.
    for first, step in ((0, 1), (2, -1)):
        expected = to_input(pixels[..., ::step], model)
        out = kernels.memory.new(expected.shape, device.dtype)
        kernels.stream.fill(out.buffer, 0xFF)
        strides = (3 * width, 3, step)
        view = SimpleNamespace(pointer=image.pointer + first, height=height, width=width, strides=strides)
        kernels.kernels.preprocess(view, out)
        _assert_close(kernels.download(out), expected, device.tolerance("preprocess"))
    kernels.close()


@pytest.mark.parametrize("samples", [1, 3])
def test_head_maps(device, samples) -> None:
    model, (height, width) = load_bundle("default").model, (19, 101)
    rng, shape = np.random.default_rng(3), (samples, model.latent_channels, 5, 26)
    # A little beyond -b .. b, so that both ends are clipped.
    estimates = rng.uniform(-1.2 * model.map_scale, 1.2 * model.map_scale, shape).astype(np.float32)
    changes = rng.uniform(0, 1, shape).astype(np.float32)
    expected = head_maps(list(estimates[:, None]), list(changes[:, None]), model)
    kernels = Gpu(device.dtype, load_bundle("default"))
    latents = (kernels.memory.upload(x, "float32") for x in (estimates, changes))
    maps = [kernels.memory.new((height, width), "float32") for _ in range(2)]
    for array in maps:
        kernels.stream.fill(array.buffer, 0xFF)
    kernels.kernels.head_maps(*latents, *maps)
    for array, values in zip(maps, expected, strict=True):
        _assert_close(kernels.download(array), values[:height, :width], GPU_KERNELS["head_maps", "torch.float32"])
    kernels.close()


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
