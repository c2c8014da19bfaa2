"""What the PyTorch backend sets around its work on a GPU: device, precision, and how it records."""

from __future__ import annotations

import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tolerances import CONFORMANCE

import engine
from engine.backends.base import Backend
from engine.backends.registry import create_backend
from engine.bundle.bundle import load_bundle
from engine.config import CounterConfig
from engine.diffusion.sampler import Request, infer
from engine.image.load import load_image
from engine.image.tiles import to_input
from engine.system.recordings import RECORDING
from engine.system.stopwatch import Stopwatch

torch = pytest.importorskip("torch", reason="PyTorch comes with the train extra")

PICTURE = Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg"


def _backend(device: str = "cpu", compute_type: str = "float32") -> Backend:
    config = CounterConfig(backend="torch", device=device, compute_type=compute_type)
    return create_backend(load_bundle("default"), config)


@pytest.fixture
def convolutions():
    """PyTorch's setting, at its default."""
    setting = torch.backends.cudnn.conv
    before, setting.fp32_precision = setting.fp32_precision, "tf32"
    yield setting
    setting.fp32_precision = before


def test_the_last_thread_puts_the_precision_back(convolutions) -> None:
    from engine.backends.torch.precision import full_precision

    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with full_precision():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        entered.wait()
        with full_precision():
            assert convolutions.fp32_precision == "ieee"
        assert convolutions.fp32_precision == "ieee"
    assert convolutions.fp32_precision == "ieee"
    leave.set()
    thread.join()
    assert convolutions.fp32_precision == "tf32"
    with pytest.raises(ZeroDivisionError), full_precision():
        raise ZeroDivisionError
    assert convolutions.fp32_precision == "tf32"


@pytest.mark.parametrize(("compute_type", "precision"), [("float32", "ieee"), ("bfloat16", "tf32")])
def test_every_call_is_of_its_device_and_type(monkeypatch, convolutions, compute_type, precision) -> None:
    pytest.importorskip("triton", reason="Triton exists on Linux alone")
    network = _backend(compute_type=compute_type)._network
    current, seen = [], []

    @contextmanager
    def device(name):
        current.append(name)
        yield
        current.pop()

    def note(*_):
        seen.append(([*current], convolutions.fp32_precision))
        return None, None

    # A network on the CPU that takes itself for one on the second GPU.
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr("engine.kernels.ddim_update.ddim_update", note)
    monkeypatch.setattr(network, "device", "cuda:1")
    monkeypatch.setattr(network, "_on_gpu", True)
    monkeypatch.setattr(network, "_autocast", nullcontext)
    # What the stand-ins give is no array.
    monkeypatch.setattr("engine.backends.torch.network.check_ends", lambda *_: None)
    monkeypatch.setattr(network, "_denoiser", SimpleNamespace(network=SimpleNamespace(encoder=note), decode=note))
    network.encode(torch.zeros(1, 3, 32, 32))
    network.decode(None, None, 1.0)
    network.ddim_update(None, torch.zeros(1), None, None, (0.5,) * 6)
    assert seen == [(["cuda:1"], precision)] * 3
    assert current == []


def test_a_recorded_inference_is_the_eager_one(monkeypatch) -> None:
    """With a graph that computes anew, so that it does on a CPU."""
    from engine.backends.torch.recorded import RecordedInference

    network, recordings = _backend()._network, []

    class Graph:
        def replay(self) -> None:
            for kept, computed in zip(recorded._outputs, recorded._compute(), strict=True):
                kept.copy_(computed)

    @contextmanager
    def record(graph, stream=None, capture_error_mode="global"):
        recordings.append((stream, capture_error_mode, RECORDING.locked()))
        yield

    streams = [SimpleNamespace(wait_stream=lambda other: None) for _ in range(2)]
    for name, stand_in in {
        "device": lambda name: nullcontext(),
        "stream": lambda stream: nullcontext(),
        "current_stream": lambda: streams[0],
        "Stream": lambda: streams[1],
        "CUDAGraph": Graph,
        "graph": record,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    recorded = RecordedInference(network, 64, 96, steps=2, samples=2)
    # Not PyTorch's own stream, which is of one device; other threads are free to allocate, but not to record.
    assert recordings == [(streams[1], "thread_local", True)]
    assert not RECORDING.locked()
    for seed in range(2):
        image = load_image(PICTURE)[100 * seed :][:64, :96]
        request = Request(steps=2, samples=2, seed=seed, threshold=None)
        eager = infer(network, image, request, Stopwatch())
        ours = recorded(to_input(image, network.model), request)
        assert np.array_equal(ours.heatmap, eager.heatmap)
        assert np.array_equal(ours.spread, eager.spread)
        assert np.array_equal(ours.rate, eager.rate)


def test_long_inferences_are_not_recorded(monkeypatch) -> None:
    monkeypatch.setattr("engine.backends.torch.backend.MAX_RECORDED_CALLS", 3)
    backend, recorded = _backend(), []

    class Recorded:
        def __init__(self, network, *key):
            recorded.append(key)

        def __call__(self, pixels, request):
            return "recorded"

    monkeypatch.setattr("engine.backends.torch.backend.RecordedInference", Recorded)
    monkeypatch.setattr("engine.backends.torch.backend.infer", lambda *_: "eager")
    monkeypatch.setattr(backend, "_on_gpu", True)

    def infer_with(steps: int, samples: int) -> object:
        return backend.infer(np.zeros((32, 32, 3), np.uint8), Request(steps, samples, 0, None), Stopwatch())

    answers = [infer_with(3, 1), infer_with(2, 2), infer_with(1, 3), infer_with(4, 1)]
    assert answers == ["recorded", "eager", "recorded", "eager"]
    assert recorded == [(32, 32, 3, 1), (32, 32, 1, 3)]


@pytest.mark.gpu
def test_float32_on_a_gpu_is_not_rounded(convolutions) -> None:
    pixels = to_input(load_image(PICTURE)[:256, :320], load_bundle("default").model)
    features = []
    for device in ("cpu", "cuda"):
        backend = _backend(device)
        with backend.network() as network:
            features.append(network.download(network.encode(network.upload(pixels))[0]))
        backend.close()
    error = np.linalg.norm(features[1] - features[0]) / np.linalg.norm(features[0])
    # TF32 is off by ten times that.
    assert error < CONFORMANCE["float32"].features
    assert convolutions.fp32_precision == "tf32"


@pytest.mark.gpu
def test_other_threads_use_the_gpu_while_a_size_is_recorded() -> None:
    done, failures = threading.Event(), []

    def others() -> None:
        held = []
        try:
            event = torch.cuda.Event()
            event.record()
            while not done.is_set():
                # Each is forbidden to every thread while one records in PyTorch's default mode.
                event.query()
                if len(held) < 64:
                    held.append(torch.empty(1 << 25, dtype=torch.uint8, device="cuda"))
        except Exception as error:
            failures.append(error)

    with engine.CrowdCounter(backend="torch", device="cuda") as counter:
        thread = threading.Thread(target=others)
        thread.start()
        try:
            for side in (64, 96, 128):
                counter.count(np.zeros((side, side, 3), np.uint8))
        finally:
            done.set()
            thread.join()
    assert failures == []


@pytest.mark.gpu
def test_each_of_two_gpus_counts() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("this machine has one GPU")
    counts = []
    for device in ("cuda", "cuda:1"):
        with engine.CrowdCounter(backend="torch", device=device, compute_type="float16") as counter:
            counts.append(counter.count(PICTURE).count)
    assert counts[0] == counts[1] > 0
