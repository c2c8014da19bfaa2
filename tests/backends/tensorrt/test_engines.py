"""Engines from the cache or built, against a stand-in of TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backends.tensorrt.stand_in import StandIn
from reliability.small_bundle import write_small_bundle

from engine.backends.compiled_cache import CompiledCache
from engine.backends.tensorrt.engines import EngineStore, SegmentEngine
from engine.backends.tensorrt.library import ShapeRange, TensorRT
from engine.backends.tensorrt.runtime_cache import RuntimeCache
from engine.bundle.bundle import WEIGHTS_FILE, Bundle, SegmentStage
from engine.errors import BackendError

STAGE = SegmentStage("x.onnx", ("x", "t"), ("packed", "rate"), {"float16": "x.float16.onnx"})
RANGE = ShapeRange()
GPU = {"name": "L4", "capability": "8.9", "driver": 13000}
RTX = pytest.mark.parametrize("rtx", [False, True], ids=["tensorrt", "tensorrt_rtx"])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    # TensorRT's stand-in reads no graph.
    files = {name: name.encode() for name in ("x.onnx", "x.float16.onnx")}
    return write_small_bundle(tmp_path / "bundle", files)


def _store(bundle: Bundle, api: StandIn, cache: CompiledCache, gpu: dict = GPU) -> EngineStore:
    library = TensorRT(api, "tensorrt_rtx" if api.rtx else "tensorrt")
    return EngineStore(library, bundle, "float16", gpu, cache)


@RTX
def test_built_once_then_cached(bundle: Bundle, tmp_path: Path, rtx: bool) -> None:
    first, second = StandIn(rtx), StandIn(rtx)
    store = _store(bundle, first, CompiledCache(tmp_path / "cache"))
    assert store.engine(STAGE, RANGE) is store.engine(STAGE, RANGE)
    assert first.named("parse") == [(str(bundle.path / "x.float16.onnx"),)]
    engine = _store(bundle, second, CompiledCache(tmp_path / "cache")).engine(STAGE, RANGE)
    assert second.named("build") == []
    assert second.named("deserialize") == [(b"plan 1",)]
    assert engine.types == {"x": "float16", "t": "float32", "packed": "float16", "rate": "float32"}
    # Engines go when the store does.
    store.close()
    store.engine(STAGE, RANGE)
    assert len(first.named("deserialize")) == 2


@RTX
def test_built_for_this_gpu(bundle: Bundle, rtx: bool) -> None:
    api = StandIn(rtx)
    _store(bundle, api, CompiledCache(None)).engine(STAGE, RANGE)
    assert api.named("capability") == ([(89, 0)] if rtx else [])


def test_built_again_where_anything_differs(bundle: Bundle, tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "cache")

    def builds(api: StandIn, shapes: ShapeRange = RANGE, gpu: dict = GPU) -> int:
        _store(bundle, api, cache, gpu).engine(STAGE, shapes)
        return len(api.named("build"))

    assert builds(StandIn()) == 1
    assert builds(StandIn()) == 0
    assert builds(StandIn(version="10.9.1")) == 1
    assert builds(StandIn(rtx=True)) == 1
    assert builds(StandIn(), shapes=ShapeRange(largest=(9, 2048, 2048))) == 1
    for change in ({"name": "A100"}, {"capability": "9.1"}, {"driver": 13010}):
        assert builds(StandIn(), gpu={**GPU, **change}) == 1
    for file in ("x.float16.onnx", WEIGHTS_FILE):
        (bundle.path / file).write_text("other")
        assert builds(StandIn()) == 1
    # What was not asked for is not part of the key.
    (bundle.path / "x.onnx").write_text("other")
    assert builds(StandIn()) == 0


def test_a_damaged_engine_is_built_again(bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = CompiledCache(tmp_path / "cache")
    _store(bundle, StandIn(), cache).engine(STAGE, RANGE)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    for builds in (1, 0):
        api = StandIn()
        _store(bundle, api, cache).engine(STAGE, RANGE)
        assert len(api.named("build")) == builds
        # What is damaged never reaches the runtime.
        assert api.named("deserialize") == [(b"plan 1",)]
    assert len(caplog.records) == 1


def test_a_refused_engine_is_built_again(bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = CompiledCache(tmp_path / "cache")
    _store(bundle, StandIn(rtx=True), cache).engine(STAGE, RANGE)
    api = StandIn(rtx=True)
    verdicts = iter([(2, 4), (0, 0)])
    real = api.Runtime

    def runtime(logger: object) -> object:
        made = real(logger)
        made.get_engine_validity = lambda head: next(verdicts)
        return made

    api.Runtime = runtime
    _store(bundle, api, cache).engine(STAGE, RANGE)
    assert len(api.named("build")) == 1
    assert "OLD_CUDA_DRIVER; it is built again" in caplog.text


def test_what_this_machine_refuses_is_not_kept(bundle: Bundle, tmp_path: Path) -> None:
    api = StandIn(rtx=True)
    api.validity = (2, 2)
    with pytest.raises(BackendError, match="UNSUPPORTED_CC"):
        _store(bundle, api, CompiledCache(tmp_path / "cache")).engine(STAGE, RANGE)
    assert not (tmp_path / "cache").exists()


def test_bundles_without_the_type(bundle: Bundle) -> None:
    library = TensorRT(StandIn(), "tensorrt")
    store = EngineStore(library, bundle, "bfloat16", GPU, CompiledCache(None))
    with pytest.raises(BackendError, match=r"no bfloat16 segments \(reduced types: float16\); export it again"):
        store.engine(STAGE, RANGE)


def test_an_engine_of_another_segment(bundle: Bundle) -> None:
    library = TensorRT(StandIn(), "tensorrt")
    stage = SegmentStage("x.onnx", ("x",), ("packed", "rate"))
    with pytest.raises(BackendError, match="the bundle says otherwise"):
        SegmentEngine(library, library.load(b"plan"), stage, RuntimeCache(CompiledCache(None), {}))


def _use(bundle: Bundle, cache: CompiledCache, **options: Any) -> StandIn:
    """Makes two contexts, and closes the store."""
    api = StandIn(rtx=True)
    vars(api).update(options)
    store = _store(bundle, api, cache)
    for _ in range(2):
        store.engine(STAGE, RANGE).new_context()
    store.close()
    return api


def test_what_the_runtime_compiles_is_shared_and_kept(bundle: Bundle, tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path / "cache")
    first = _use(bundle, cache, compiled=b"one size")
    assert len(first.named("runtime_cache")) == len(first.named("context")) == 2
    assert (first.named("restore"), len(first.named("keep"))) == ([], 1)
    second = _use(bundle, cache, compiled=b"two sizes")
    assert second.named("restore") == [(b"one size",)]
    assert _use(bundle, cache).named("restore") == [(b"two sizes",)]


@pytest.mark.parametrize("refused", ["restore", "keep", "runtime_cache"])
def test_a_runtime_cache_that_is_refused_costs_only_time(bundle: Bundle, tmp_path: Path, refused: str) -> None:
    cache = CompiledCache(tmp_path / "cache")
    _use(bundle, cache, compiled=b"old")
    assert len(_use(bundle, cache, refuse={refused}, compiled=b"new").named("context")) == 2
    # What was not taken is replaced; what could not be written stays.
    expected = b"old" if refused == "keep" else b"new"
    assert _use(bundle, cache).named("restore") == [(expected,)]


def test_versions_without_a_runtime_cache(bundle: Bundle, tmp_path: Path) -> None:
    api = StandIn(rtx=True)
    real = api.runtime_config

    def older() -> Any:
        config = real()
        del config.create_runtime_cache, config.set_runtime_cache
        return config

    api.runtime_config = older
    store = _store(bundle, api, CompiledCache(tmp_path / "cache"))
    store.engine(STAGE, RANGE).new_context()
    store.close()
    assert len(api.named("context")) == 1
