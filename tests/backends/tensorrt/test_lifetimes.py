"""When engines and execution contexts go: TensorRT frees them at once, in whatever state the device is."""

from __future__ import annotations

import gc
from contextlib import closing

import numpy as np
import pytest
from backends.tensorrt.blobs import picture

from engine.backends.registry import create_backend
from engine.backends.tensorrt.inference import Inference, InferenceKey
from engine.config import CounterConfig
from engine.diffusion.sampler import Request


@pytest.fixture
def _no_collector():
    """What only the garbage collector would free stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("rtx", [False, True], ids=["tensorrt", "tensorrt_rtx"])
def test_engines_go_before_their_context(machine, gpu_bundle, rtx) -> None:
    here = machine(rtx=rtx)
    with closing(create_backend(gpu_bundle, CounterConfig(model=gpu_bundle.path, device="cuda"))) as backend:
        key = InferenceKey(32, 64, steps=1, samples=1, has_peaks=False)
        # As a run holds it that nobody fetched.
        held = Inference(backend._runtime, key)
        held.launch(Request(steps=1, samples=1, seed=0, threshold=None))
        held.close()
        with backend.network() as network:
            network.download(network.encode(network.prepare(picture(32, 32)))[0])
        assert len(here.gpu.engines) == 5
    # The stand-in of the driver asserts it, too, when the context goes.
    assert len(here.gpu.engines) == 0


@pytest.mark.usefixtures("_no_collector")
def test_an_eager_network_is_not_freed_while_it_runs(machine, gpu_bundle) -> None:
    """Nobody waits between the calls, and a third size takes the place of the first."""
    machine()
    sizes = [(32, 32), (32, 64), (64, 32), (64, 64)]
    config = CounterConfig(model=gpu_bundle.path, device="cuda")
    with closing(create_backend(gpu_bundle, config)) as backend, backend.network() as network:
        # Rounded in the first round: that goes through the host, which waits.
        pixels = [network.prepare(picture(*size)) for size in sizes]
        alone = [network.download(network.encode(x)[0]) for x in pixels]
        together = [network.encode(x)[0] for x in pixels]
        for ours, expected in zip(together, alone, strict=True):
            assert np.array_equal(network.download(ours), expected)
