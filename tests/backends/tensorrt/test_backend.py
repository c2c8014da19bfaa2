"""Whole counts on a simulated GPU: the numbers, what is recorded, and what is left when calls fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from backends.tensorrt.blobs import picture
from same_result import same_result

import engine
from engine.backends.registry import create_backend
from engine.backends.tensorrt import backend as backend_module
from engine.backends.tensorrt import inference
from engine.config import CounterConfig
from engine.counting.heads import candidate_threshold, choose_rule
from engine.diffusion.sampler import Request, infer
from engine.errors import BackendError, EngineError
from engine.kernels import reference
from engine.system.stopwatch import Stopwatch


@pytest.mark.parametrize("size", [(32, 32), (70, 90), (33, 129), (1, 5)], ids=str)
@pytest.mark.parametrize("options", [{"steps": 1}, {"steps": 3}, {"steps": 2, "samples": 3}], ids=str)
@pytest.mark.parametrize("rtx", [False, True], ids=["tensorrt", "tensorrt_rtx"])
def test_counts_what_pytorch_counts(machine, gpu_bundle, size, options, rtx) -> None:
    image = picture(*size)
    with engine.CrowdCounter(gpu_bundle.path, backend="torch", compute_type="float32") as counter:
        expected = counter.count(image, **options)
    with machine(rtx=rtx).counter() as counter:
        # The first one runs plainly and is recorded; the second is a replay.
        first, second = (counter.count(image, **options) for _ in range(2))
    assert same_result(first, second)
    for name in ("heatmap", "uncertainty"):
        ours, theirs = getattr(first, name), getattr(expected, name)
        assert ours.shape == theirs.shape
        # Float16 keeps 11 bits, and errors add up over some tens of layers.
        assert np.abs(ours - theirs).max() < 5e-3, name
    assert abs(first.count - expected.count) <= 0.05 * expected.count
    assert first.image_size == size[::-1]
    assert first.timings["gpu"] > 0
    stages = {"load", "upload", "launch", "wait", "peaks"}
    assert sum(first.timings[x] for x in stages) == pytest.approx(first.timings["total"])


@pytest.mark.parametrize("size", [(64, 96), (41, 67)], ids=str)
def test_the_graph_computes_what_the_eager_network_does(machine, gpu_bundle, size) -> None:
    """Bit for bit: the maps, and the peaks that the host would find in them."""
    config = CounterConfig(model=gpu_bundle.path, device="cuda")
    machine()
    backend = create_backend(gpu_bundle, config)
    image, threshold = picture(*size), candidate_threshold(choose_rule(gpu_bundle.counting, 3))
    request = Request(steps=3, samples=2, seed=5, threshold=threshold)
    with backend.network() as network:
        eager = infer(network, image, request, Stopwatch())
    for _ in range(3):
        ours = backend.infer(image, request, Stopwatch())
        height, width = ours.heatmap.shape
        assert (height, width) == tuple(-(-side // 2) for side in size)
        assert np.array_equal(ours.heatmap, eager.heatmap[:height, :width])
        assert np.array_equal(ours.spread, eager.spread[:height, :width])
        assert np.array_equal(ours.rate, eager.rate)
        points, scores = reference.find_peaks(ours.heatmap, threshold)
        assert len(scores) > 3
        assert np.array_equal(ours.peaks[0], points)
        assert np.array_equal(ours.peaks[1], scores)
    backend.close()


def test_a_repeated_count_is_one_graph(machine) -> None:
    """Nothing is allocated, loaded or recorded again, and the host waits for the device once."""
    here = machine()
    with here.counter() as counter:
        for _ in range(3):
            counter.count(picture(64, 96))
        here.gpu.calls.clear()
        here.api.calls.clear()
        counter.count(picture(64, 96, seed=1))
        assert here.api.calls == []
        assert here.gpu.names() == [
            # The older upload buffer is free, and filled.
            "cuEventSynchronize", "cuStreamWaitEvent", "cuMemcpyHtoDAsync", "cuEventRecord",
            # The picture goes in, and the buffer is free again.
            "cuStreamWaitEvent", "cuLaunchKernel", "cuEventRecord",
            "cuEventRecord", "cuGraphLaunch", "cuEventRecord",
            "cuEventSynchronize", "cuEventElapsedTime",
        ]  # fmt: skip


def test_sizes_steps_and_samples_have_graphs_of_their_own(machine) -> None:
    here = machine()
    requests = [(64, 96, 3, 1), (64, 64, 3, 1), (64, 96, 2, 1), (64, 96, 3, 2), (63, 96, 3, 1)]
    with here.counter() as counter:
        images = {request: picture(*request[:2]) for request in requests}

        def count(request: tuple[int, ...]) -> engine.CountResult:
            return counter.count(images[request], steps=request[2], samples=request[3])

        first = {request: count(request) for request in requests}
        assert here.gpu.names().count("cuGraphInstantiate") == len(requests)
        for _ in range(2):
            for request in requests:
                assert same_result(count(request), first[request])
        assert here.gpu.names().count("cuGraphInstantiate") == len(requests)
        assert here.gpu.names().count("cuGraphLaunch") == 3 * len(requests)


def test_the_oldest_graphs_are_given_up_with_their_memory(machine, monkeypatch) -> None:
    monkeypatch.setattr(backend_module, "_INFERENCES", 2)
    here = machine()
    with here.counter() as counter:
        sizes = [(32, 32), (32, 64), (64, 32), (64, 64), (32, 96)]
        first = [counter.count(picture(*size)) for size in sizes]
        held = []
        for _ in range(3):
            for size, expected in zip(sizes, first, strict=True):
                assert same_result(counter.count(picture(*size)), expected)
                assert list(here.gpu.live.values()).count("executable") == 2
            held.append(sorted(here.gpu.live.values()))
        assert held[0] == held[1] == held[2]


def test_the_seed_is_uploaded_again_when_it_changes(machine, gpu_bundle) -> None:
    machine()
    image, results = picture(64, 64), []
    with closing(create_backend(gpu_bundle, CounterConfig(model=gpu_bundle.path, device="cuda"))) as backend:
        for seed in (0, 7, 0):
            request = Request(steps=2, samples=1, seed=seed, threshold=0.3 + 0.1 * seed)
            results.append(backend.infer(image, request, Stopwatch()))
    assert np.array_equal(results[0].heatmap, results[2].heatmap)
    assert not np.array_equal(results[0].heatmap, results[1].heatmap)
    for maps, threshold in zip(results, (0.3, 1.0, 0.3), strict=True):
        assert np.array_equal(maps.peaks[1], reference.find_peaks(maps.heatmap, threshold)[1])


def test_long_inferences_are_not_recorded(machine, monkeypatch) -> None:
    monkeypatch.setattr(inference, "MAX_RECORDED_CALLS", 5)
    here = machine()
    with here.counter() as counter:
        image = picture(32, 64)
        results = [counter.count(image, steps=3, samples=2) for _ in range(2)]
        assert same_result(*results)
        assert "cuGraphLaunch" not in here.gpu.names()
        counter.count(image, steps=5)
        assert "cuGraphLaunch" in here.gpu.names()


def test_large_pictures_are_tiled(machine, monkeypatch, gpu_bundle) -> None:
    plan = engine.counting.stitching.plan_tiles
    monkeypatch.setattr(
        "engine.counting.stitching.plan_tiles", lambda h, w: plan(h, w, max_pixels=64 * 64, side=96, halo=32)
    )
    image = picture(100, 180)
    here = machine()
    with engine.CrowdCounter(gpu_bundle.path, backend="torch", compute_type="float32") as counter:
        expected = counter.count(image)
    with here.counter() as counter:
        ours = counter.count(image)
    assert "tiles" in ours.warnings[0]
    assert np.abs(ours.heatmap - expected.heatmap).max() < 5e-3
    assert abs(ours.count - expected.count) <= 0.05 * expected.count
    # The host looks for peaks, in the maps laid together.
    assert "write_peaks" not in {name for name, *_ in here.gpu.launches}


def test_threads_share_a_counter(machine) -> None:
    with machine().counter() as counter:
        images = [picture(64, 64 + 32 * (i % 2), seed=i) for i in range(6)]
        expected = [counter.count(image) for image in images]
        results: dict[int, list[engine.CountResult]] = {}

        def work(i: int) -> None:
            results[i] = [counter.count(images[i]) for _ in range(5)]

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(same_result(result, expected[i]) for i in range(6) for result in results[i])


def test_engines_are_built_once_for_all_counters(machine) -> None:
    first = machine()
    first.counter().close()
    assert len(first.api.named("build")) == 5
    second = machine()
    second.counter().close()
    assert second.api.named("build") == []


def test_closing_twice_is_harmless_and_counting_afterwards_is_refused(machine) -> None:
    here = machine()
    counter = here.counter()
    counter.count(picture(32, 32))
    backend = counter._backend
    counter.close()
    here.gpu.assert_clean()
    counter.close()
    backend.close()
    with pytest.raises(EngineError, match="closed"):
        counter.count(picture(32, 32))
    with pytest.raises(EngineError, match="this CrowdCounter is closed"):
        backend.infer(picture(32, 32), Request(1, 1, 0, None), Stopwatch())


def test_a_failing_call_leaves_nothing_behind(machine) -> None:
    """Whichever call of the driver fails: its error is raised, the next count is right, and in the end all is freed."""
    image, options = picture(32, 32), {"steps": 2, "samples": 2}
    probe = machine()
    with probe.counter() as counter:
        expected, *_ = [counter.count(image, **options) for _ in range(3)]
    # Making a context current is tried a few times, of its hundreds.
    numbers = [i for i, (name, *_) in enumerate(probe.gpu.calls) if not name.startswith("cuCtx") or i % 20 == 0]
    failed = 0
    for number in numbers:
        here = machine(fail_at=number)
        try:
            counter = here.counter()
        except EngineError:
            failed += 1
            here.gpu.assert_clean()
            continue
        before = failed
        for _ in range(3):
            try:
                assert same_result(counter.count(image, **options), expected), number
            except EngineError:
                failed += 1
        if failed > before:
            assert failed == before + 1
            assert same_result(counter.count(image, **options), expected), number
        try:
            counter.close()
        except EngineError:
            failed += 1
        here.gpu.assert_clean()
    # A few fail where the failure is expected and passed over.
    assert failed > 0.95 * len(numbers)


def test_tensorrt_that_fails_while_running_can_be_asked_again(machine) -> None:
    here = machine()
    with here.counter() as counter:
        expected = counter.count(picture(64, 64))
        here.api.refuse = {"execute"}
        with pytest.raises(BackendError, match="no execute"):
            counter.count(picture(32, 64))
        # What is recorded does not ask TensorRT.
        assert same_result(counter.count(picture(64, 64)), expected)
        here.api.refuse = set()
        counter.count(picture(32, 64))


def test_counting_loads_neither_torch_nor_triton(gpu_bundle, tmp_path) -> None:
    """In a process of its own, on the simulated GPU."""
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from backends.simulated_machine import Machine
from backends.tensorrt.blobs import picture
from engine.backends.tensorrt import requirements
from engine.bundle.bundle import load_bundle
here = Machine(load_bundle(sys.argv[2]), Path(sys.argv[3]))
requirements.load_tensorrt = lambda: here.library
with here.counter() as counter:
    for _ in range(2):
        assert counter.count(picture(64, 64)).count > 0
print(sorted({"torch", "triton"} & set(sys.modules)))
"""
    tests = str(Path(__file__).parents[2])
    command = [sys.executable, "-P", "-c", program, tests, str(gpu_bundle.path), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stderr
