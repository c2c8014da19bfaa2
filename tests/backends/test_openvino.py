"""The CPU backend: its ways of using the cores, its threads, and its models for one size."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from same_result import same_result

import engine
from engine.backends.openvino import backend, models, worker
from engine.backends.openvino.backend import count_cores
from engine.backends.openvino.worker import Worker, to_bfloat16, to_float32
from engine.errors import BackendError, ConfigError
from engine.image.load import load_image

PICTURE = load_image(Path(__file__).parents[2] / "examples" / "pictures" / "images" / "pedestrians.jpg")
# Crops of several sizes; all but the last two are padded.
PICTURES = [PICTURE[:100, :130], PICTURE[40:140, 50:180], PICTURE[:70, :65], PICTURE[:128, :64], PICTURE[64:128, :96]]
MODES = ("balanced", "latency", "throughput")


def _counter(**options) -> engine.CrowdCounter:
    return engine.CrowdCounter(backend="openvino", **options)


@pytest.fixture(scope="module", params=MODES)
def counter(request):
    with _counter(performance=request.param, cpu_threads=2) as counter:
        yield counter


def test_all_modes_count_the_same() -> None:
    results = {}
    for mode in MODES:
        with _counter(performance=mode, compute_type="float32") as counter:
            results[mode] = counter.count(PICTURE[:320, :480])
    expected = results["balanced"]
    assert expected.count > 0
    for result in results.values():
        assert result.count == expected.count
        np.testing.assert_allclose(result.heatmap, expected.heatmap, atol=1e-3)
        np.testing.assert_allclose(result.points, expected.points, atol=0.05)


def test_repeats_batches_and_threads_are_bit_identical(counter) -> None:
    expected = [counter.count(picture, steps=2) for picture in PICTURES]
    assert all(same_result(a, b) for a, b in zip(counter.count_batch(PICTURES * 2, steps=2), expected * 2, strict=True))
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda picture: counter.count(picture, steps=2), PICTURES * 3)
        assert all(same_result(a, b) for a, b in zip(results, expected * 3, strict=True))


def test_results_do_not_share_memory_with_the_next_count(counter) -> None:
    first = counter.count(PICTURES[0], samples=2)
    kept = first.heatmap.copy(), first.uncertainty.copy(), first.density.copy()
    counter.count(PICTURES[1], samples=2)
    assert all(
        np.array_equal(a, b) for a, b in zip(kept, (first.heatmap, first.uncertainty, first.density), strict=True)
    )


@pytest.mark.parametrize(("mode", "parallel", "threads"), [("balanced", 1, 3), ("latency", 1, 3), ("throughput", 3, 1)])
def test_threads_are_as_many_as_asked_for(mode, parallel, threads, monkeypatch) -> None:
    """At most so many inferences at once, each on so many threads, from however many threads they come."""
    running, most, lock = 0, 0, threading.Lock()
    encode = Worker.encode
    # In throughput mode all three are in here at once before one gets on.
    meeting = threading.Barrier(parallel, timeout=60)

    def watched(self, image):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meeting.wait()
        try:
            return encode(self, image)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(Worker, "encode", watched)
    kernel_threads = []
    attend = worker._core.criss_cross_attention

    def watched_kernel(*arguments):
        kernel_threads.append(arguments[-1])
        attend(*arguments)

    monkeypatch.setattr(worker._core, "criss_cross_attention", watched_kernel)
    with _counter(performance=mode, cpu_threads=3) as counter, ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(lambda _: counter.count(PICTURES[0], steps=1), range(6)))) == 6
        compiled = counter._backend._models
        loaded = [*compiled._models.values(), *compiled._sized.values()]
        # OpenVINO takes no more threads than there are cores.
        assert {model.get_property("INFERENCE_NUM_THREADS") for model in loaded} == {min(threads, count_cores())}
        assert {model.get_property("NUM_STREAMS") for model in loaded} == {1}
    assert most == parallel
    assert set(kernel_threads) == {threads}


def test_models_for_a_size_are_compiled_once_and_forgotten_in_turn(monkeypatch) -> None:
    monkeypatch.setattr(worker, "_MOST_SIZES", 1)
    monkeypatch.setattr(models, "_MOST_SIZED", 5)
    sizes = []
    for_size = models.SegmentModels._compile
    monkeypatch.setattr(
        models.SegmentModels, "_compile", lambda self, *x: (sizes.append(x[0].graph), for_size(self, *x))[1]
    )
    with _counter(performance="latency", steps=1) as counter:
        first = counter.count(PICTURES[0])
        compiled = len(sizes)
        assert compiled == len(set(sizes)) > 0
        # Padded to the same size.
        counter.count(PICTURES[1])
        assert len(sizes) == compiled
        counter.count(PICTURES[2])
        assert len(counter._backend._models._sized) <= 5
        assert same_result(counter.count(PICTURES[0]), first)
        assert len(sizes) == 3 * compiled


def test_tiles_take_the_models_for_all_sizes(monkeypatch) -> None:
    plan = engine.counting.stitching.plan_tiles
    monkeypatch.setattr(
        "engine.counting.stitching.plan_tiles", lambda h, w: plan(h, w, max_pixels=1, side=320, halo=64)
    )
    with _counter(performance="latency", steps=1) as counter:
        result = counter.count(PICTURE[:256, :512])
        assert "tiles" in result.warnings[0]
        assert not counter._backend._models._sized


@pytest.mark.parametrize("mode", MODES)
def test_after_a_failure_within_openvino_nothing_is_counted(mode, monkeypatch) -> None:
    """What failed may have left anything behind; a new counter has none of it."""
    with _counter(performance=mode, cpu_threads=2) as counter:
        expected = counter.count(PICTURES[0])
        run = worker._run

        def failing(request):
            raise RuntimeError("Exception from infer_request.cpp:223:\nFailed to allocate 4194304 bytes\n")

        monkeypatch.setattr(worker, "_run", failing)
        for _ in range(2):
            with pytest.raises(BackendError, match=r"^the network failed \(Failed to allocate 4194304 bytes\)"):
                counter.count(PICTURES[0])
        monkeypatch.setattr(worker, "_run", run)
        with pytest.raises(BackendError, match="make a new CrowdCounter"):
            counter.count(PICTURES[0])
    with _counter(performance=mode, cpu_threads=2) as counter:
        assert same_result(counter.count(PICTURES[0]), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("has_started", [True, False])
def test_an_interrupted_inference_is_waited_for(has_started, mode, monkeypatch) -> None:
    """Ctrl-C may come right after it starts, or before."""
    request = worker.ov.InferRequest
    start, wait, waited = request.start_async, request.wait, []

    def interrupted(self, *arguments):
        if has_started:
            start(self, *arguments)
        raise KeyboardInterrupt

    def watched(self):
        wait(self)
        waited.append(self)

    with _counter(performance=mode, cpu_threads=2) as counter:
        with monkeypatch.context() as patch:
            patch.setattr(request, "start_async", interrupted)
            patch.setattr(request, "wait", watched)
            with pytest.raises(KeyboardInterrupt):
                counter.count(PICTURES[0])
        assert len(waited) == 1
        result = counter.count(PICTURES[0])
    with _counter(performance=mode, cpu_threads=2) as counter:
        assert same_result(result, counter.count(PICTURES[0]))


def test_an_array_that_an_interrupt_replaced_is_handed_over_again() -> None:
    old, new, tensors = np.zeros(1, np.float32), np.ones(1, np.float32), {}

    def set_tensor(name, tensor):
        tensors[name] = tensor
        if tensor.data[0] == 1:
            raise KeyboardInterrupt

    request = SimpleNamespace(set_tensor=set_tensor, start_async=lambda: None, wait=lambda: None)
    model, stage = SimpleNamespace(create_infer_request=lambda: request), SimpleNamespace(inputs="x", outputs="")
    bound = worker._Bound(model, stage)
    bound([old])
    with pytest.raises(KeyboardInterrupt):
        bound([new])
    bound([old])
    assert tensors["x"].data[0] == 0


def test_after_a_size_that_cannot_be_compiled_other_pictures_are_counted(monkeypatch) -> None:
    """The message is that of the failure, and nothing else is lost."""

    def failing(*_):
        raise RuntimeError("Exception from core.cpp:109:\nno memory\n")

    with _counter(performance="latency", cpu_threads=2) as counter:
        expected = counter.count(PICTURES[0])
        with monkeypatch.context() as patch:
            patch.setattr(models.ov.Core, "compile_model", failing)
            with pytest.raises(BackendError, match=r"(?s)^OpenVINO cannot compile .*encoder\.0.*no memory"):
                counter.count(PICTURES[2])
            assert same_result(counter.count(PICTURES[0]), expected)
        assert counter.count(PICTURES[2]).image_size == (65, 70)


@pytest.mark.parametrize("mode", MODES)
def test_more_cores_than_the_kernels_take(mode, monkeypatch) -> None:
    monkeypatch.setattr(backend, "count_cores", lambda: 1500)
    with _counter(performance=mode) as counter:
        assert counter.parallel == (1024 if mode == "throughput" else 1)
        assert counter.count(PICTURES[0]).image_size == (130, 100)


def test_closing_does_not_wait_for_ever_for_a_slow_count(monkeypatch) -> None:
    """The count still comes to its end."""
    monkeypatch.setattr(backend, "_CLOSE_TIMEOUT", 0.01)
    inside, closed = threading.Event(), threading.Event()
    decode = Worker.decode

    def slow(self, *arguments):
        inside.set()
        assert closed.wait(60)
        return decode(self, *arguments)

    counter = _counter(cpu_threads=1)
    expected = counter.count(PICTURES[0], steps=2)
    monkeypatch.setattr(Worker, "decode", slow)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(counter.count, PICTURES[0], steps=2)
        assert inside.wait(60)
        counter.close()
        closed.set()
        assert same_result(result.result(), expected)


def test_int8_needs_a_bundle_that_has_it(gpu_bundle) -> None:
    assert "int8" not in gpu_bundle.programs["encoder"].stages[0].typed
    with pytest.raises(BackendError, match=r"has no int8 variant of encoder\.0\.onnx.*compute_type='default'"):
        engine.CrowdCounter(gpu_bundle.path, backend="openvino", compute_type="int8")
    with pytest.raises(BackendError, match="computes in float32, bfloat16, int8, got 'float16'"):
        _counter(compute_type="float16")


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="performance must be one of balanced, latency, throughput, got 'fast'"):
        _counter(performance="fast")


def test_bfloat16_rounds_to_nearest_even() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    values = np.concatenate([
        rng.standard_normal(1000).astype(np.float32) * 10.0 ** rng.integers(-20, 20, 1000).astype(np.float32),
        # Halfway between two neighbours, with an even and an odd one below.
        np.array([0x3F808000, 0x3F818000, 0x7F7F8000, 0, 0x80000000], np.uint32).view(np.float32),
    ]).astype(np.float32)  # fmt: skip
    expected = torch.from_numpy(values).bfloat16()
    assert np.array_equal(to_bfloat16(values), expected.view(torch.int16).numpy().view(np.uint16))
    assert np.array_equal(to_float32(to_bfloat16(values)), expected.float().numpy())
