"""Both TensorRT packages through one class, against a stand-in; the real one is built with in tests/export."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from backends.tensorrt.stand_in import StandIn

from engine.backends.tensorrt.library import EngineRefusedError, ShapeRange, TensorRT, find_tensorrt
from engine.config import PADDING, ModelConfig
from engine.errors import BackendError
from engine.image.tiles import MAX_WHOLE_PIXELS
from engine.system.recordings import RECORDING

RANGE = ShapeRange((1, 32, 64), (2, 768, 1024), (4, 2048, 2048))


def _library(api: StandIn) -> TensorRT:
    return TensorRT(api, "tensorrt_rtx" if api.rtx else "tensorrt")


@pytest.mark.parametrize("rtx", [False, True])
def test_build(rtx: bool) -> None:
    api = StandIn(rtx)
    assert _library(api).build(Path("bundle") / "x.onnx", RANGE) == b"plan 1"
    assert api.named("network") == [(1 << 1,)]
    assert api.named("parse") == [(str(Path("bundle") / "x.onnx"),)]
    assert api.named("clear_flag") == [("TF32",)]
    assert api.named("set_flag") == ([("REQUIRE_USER_ALLOCATION",)] if rtx else [])
    # 2*h32 of 768 rows is 48.
    assert api.named("profile") == [
        ("x", (1, 3, 2, 4), (2, 3, 48, 64), (4, 3, 128, 128)),
        ("t", (1,), (2,), (4,)),
    ]
    # No auxiliary streams, and no choice of capabilities.
    assert api.named("build") == [(0, None)]


@pytest.mark.parametrize("what", ["build", "load"])
def test_no_graph_is_recorded_while_tensorrt_may_wait_for_the_device(monkeypatch, what: str) -> None:
    api, seen = StandIn(), set()
    real = api.does

    def does(*call: Any) -> bool:
        seen.add(RECORDING.locked())
        return real(*call)

    monkeypatch.setattr(api, "does", does)
    library = _library(api)
    library.build("x.onnx", RANGE) if what == "build" else library.load(b"plan 1")
    assert seen == {True}
    assert not RECORDING.locked()


def test_versions_without_the_flag_of_strong_types() -> None:
    for missing in ("enum", "member"):
        api = StandIn()
        if missing == "enum":
            del api.NetworkDefinitionCreationFlag
        else:
            api.NetworkDefinitionCreationFlag = SimpleNamespace()
        _library(api).build("x.onnx", RANGE)
        assert api.named("network") == [(0,)]


def test_capabilities() -> None:
    api = StandIn(rtx=True)
    _library(api).build("x.onnx", RANGE, ("8.6", "8.9"))
    assert api.named("capability") == [(86, 0), (89, 1)]
    assert api.named("build") == [(0, 2)]
    with pytest.raises(BackendError, match=r"cannot build for capability 9\.0; it knows 86, 89"):
        _library(api).build("x.onnx", RANGE, ("9.0",))
    with pytest.raises(BackendError, match="for the GPU at hand only"):
        _library(StandIn()).build("x.onnx", RANGE, ("8.6",))


def test_an_engine_is_built_for_the_gpu_at_hand() -> None:
    assert _library(StandIn()).targets("9.0") == ()
    assert _library(StandIn(rtx=True)).targets("8.9") == ("8.9",)
    # What it cannot be told to build for it may run on all the same.
    assert _library(StandIn(rtx=True)).targets("9.0") == ()


def test_the_real_package_knows_its_gpus() -> None:
    api = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    library = TensorRT(api, "tensorrt_rtx")
    assert library.targets("8.0") == ("8.0",)
    assert library.targets("12.0") == ("12.0",)
    assert library.targets("9.0") == ()


def test_errors_carry_the_packages_messages() -> None:
    api = StandIn()
    api.refuse, api.parser_messages = {"parse"}, ["node 3: no such operator", "node 4: bad"]
    with pytest.raises(BackendError, match=r"tensorrt 10\.9\.0 cannot parse x\.onnx: node 3: no such operator; node 4"):
        _library(api).build("x.onnx", RANGE)
    for refused in ("build", "add_profile"):
        api.refuse = {refused}
        with pytest.raises(BackendError, match=rf"cannot build x\.onnx.*no {refused}$"):
            _library(api).build("x.onnx", RANGE)
    api.refuse = {"Builder"}
    with pytest.raises(BackendError, match=r"cannot build x\.onnx: pybind11.*it gave no reason"):
        _library(api).build("x.onnx", RANGE)


def test_graphs_of_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backends.tensorrt.stand_in.TENSORS", {"x": (True, None, (1, -1))})
    with pytest.raises(BackendError, match="axis 1 of x has no known name; export the bundle again"):
        _library(StandIn()).build("x.onnx", RANGE)


def test_load() -> None:
    api = StandIn()
    library = _library(api)
    assert library.load(b"plan").num_io_tensors == 4
    api.refuse = {"deserialize"}
    with pytest.raises(EngineRefusedError, match="no deserialize"):
        library.load(b"plan")


def test_the_verdict_comes_before_loading(caplog: pytest.LogCaptureFixture) -> None:
    api = StandIn(rtx=True)
    library = _library(api)
    library.load(b"head body")
    assert [x[0] for x in api.calls] == ["validity", "deserialize"]
    assert api.named("validity") == [(b"head",)]
    api.calls.clear()
    api.validity = (2, 6)
    with pytest.raises(EngineRefusedError, match="refuses an engine: UNSUPPORTED_CC, OLD_CUDA_DRIVER"):
        library.load(b"head body")
    assert api.named("deserialize") == []
    assert caplog.records == []
    api.validity = (1, 2)
    library.load(b"head body")
    assert "suboptimal here: UNSUPPORTED_CC" in caplog.text


def _importer(**modules: object):
    def import_module(name: str) -> object:
        found = modules.get(name, ImportError(f"No module named {name!r}"))
        if isinstance(found, Exception):
            raise found
        return found

    return import_module


def test_the_full_package_is_preferred() -> None:
    full, rtx = StandIn(version="11.2.0"), StandIn(rtx=True, version="1.7.1.116")
    assert find_tensorrt(_importer(tensorrt=full, tensorrt_rtx=rtx)).name == "tensorrt 11.2.0"
    assert find_tensorrt(_importer(tensorrt_rtx=rtx)).name == "tensorrt_rtx 1.7.1.116"
    broken = OSError("libnvinfer.so.10: cannot open shared object file")
    assert find_tensorrt(_importer(tensorrt=broken, tensorrt_rtx=rtx)).api is rtx


def test_no_package() -> None:
    with pytest.raises(BackendError) as raised:
        find_tensorrt(_importer(tensorrt=StandIn(version="8.6.1")))
    message = str(raised.value)
    assert "tensorrt: version 8.6.1, expected 10.0 or newer" in message
    assert "tensorrt_rtx: No module named 'tensorrt_rtx'" in message
    assert "pip install 'crowd-engine[tensorrt]' or pip install 'crowd-engine[tensorrt-rtx]'" in message


@pytest.mark.parametrize(
    ("size", "usual", "largest"),
    [
        ((1, 32, 32), (1, 768, 1024), (1, 2048, 2048)),
        ((1, 2048, 2048), (1, 768, 1024), (1, 2048, 2048)),
        ((9, 64, 64), (12, 768, 1024), (16, 2048, 2048)),
        ((1, 2080, 64), (1, 3072, 1024), (1, 4096, 2048)),
        ((1, 64, 2080), (1, 768, 3072), (1, 2048, 4096)),
        ((1, 4128, 992), (1, 6144, 1024), (1, 8192, 1024)),
        ((1, 32, 131072), (1, 64, 98304), (1, 64, 131072)),
        # Beyond what is cut into tiles.
        ((1, 4096, 4128), (1, 3072, 6144), (1, 4096, 8192)),
    ],
)
def test_ranges(size: tuple, usual: tuple, largest: tuple) -> None:
    found = ShapeRange.holding(*size)
    assert (found.smallest, found.usual, found.largest) == ((1, 32, 32), usual, largest)
    # Every size within leads to the same engine.
    assert ShapeRange.holding(*largest) == found


def test_no_range_of_a_picture_in_one_piece_ends_in_tensors_that_tensorrt_refuses() -> None:
    model, ranges = ModelConfig(), set()
    for height in range(PADDING, MAX_WHOLE_PIXELS // PADDING + 1, PADDING):
        # The widest picture of that height.
        width = MAX_WHOLE_PIXELS // height // PADDING * PADDING
        for size in ((1, height, width), (1, width, height), (1, height, PADDING)):
            ranges.add(ShapeRange.holding(*size))
            assert all(x <= y for x, y in zip(size, ShapeRange.holding(*size).largest, strict=True))
    # The common one, and one for each power of two of either side.
    assert len(ranges) == 1 + 2 * 6
    for found in ranges:
        # The stem's output has the most values: at half the resolution, in the first of the widths.
        assert math.prod(found.largest) // 4 * model.widths[0] < 2**31 // 8
        for ends in zip(found.smallest, found.usual, found.largest, strict=True):
            assert list(ends) == sorted(ends)
