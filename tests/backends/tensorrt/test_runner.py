"""What runs engines on a stream, plainly and while it is recorded, against a stand-in of TensorRT."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import pytest
from backends.cuda.fake_driver import FakeDriver
from backends.tensorrt.stand_in import TENSORS, DataType, FakeArray, FakeStream, StandIn, Strategy

from engine.backends.compiled_cache import CompiledCache
from engine.backends.cuda.arrays import DeviceMemory
from engine.backends.cuda.context import Context
from engine.backends.cuda.graphs import record
from engine.backends.cuda.kernels import Kernels
from engine.backends.cuda.memory import DeviceBuffer
from engine.backends.cuda.streams import Stream
from engine.backends.tensorrt.engines import SegmentEngine
from engine.backends.tensorrt.library import TensorRT
from engine.backends.tensorrt.network import _Attention
from engine.backends.tensorrt.runner import SegmentRunner, Workspace
from engine.backends.tensorrt.runtime_cache import RuntimeCache
from engine.bundle.bundle import SegmentStage
from engine.errors import BackendError, BundleError

STAGE = SegmentStage("x.onnx", ("x", "t"), ("packed", "rate"))
RTX = pytest.mark.parametrize("rtx", [False, True], ids=["tensorrt", "tensorrt_rtx"])


class _Rig:
    """A runner with its stand-in, and two inputs."""

    def __init__(self, rtx: bool = False):
        self.api = StandIn(rtx)
        library = TensorRT(self.api, "tensorrt_rtx" if rtx else "tensorrt")
        self.engine = SegmentEngine(library, library.load(b"plan"), STAGE, RuntimeCache(CompiledCache(None), {}))
        self.stream = FakeStream(self.api)
        self.buffers: list[FakeArray] = []
        self.workspace = Workspace(self._allocate)
        self.inputs = [FakeArray((2, 3, 5, 7)), FakeArray((2,), "float32")]
        self.runner = self.new_runner()
        self.api.calls.clear()

    def new_runner(self) -> SegmentRunner:
        return SegmentRunner(self.engine, self.stream, self.workspace, FakeArray)

    def _allocate(self, nbytes: int) -> FakeArray:
        self.buffers.append(FakeArray((nbytes,)))
        return self.buffers[-1]


@RTX
def test_first_call_prepares_and_runs(rtx: bool) -> None:
    rig = _Rig(rtx)
    outputs = rig.runner(rig.inputs)
    assert [(x.shape, x.dtype) for x in outputs] == [((2, 16, 5, 7), "float16"), ((2, 1, 5, 7), "float32")]
    context = (Strategy.USER_MANAGED, "DISABLED", "EAGER") if rtx else Strategy.USER_MANAGED
    arrays = zip(("x", "t", "packed", "rate"), (*rig.inputs, *outputs), strict=True)
    assert rig.api.calls == [
        ("push",),
        *([("runtime_cache",)] if rtx else []),
        ("context", context),
        ("input_shape", "x", (2, 3, 5, 7)),
        ("input_shape", "t", (2,)),
        ("infer_shapes",),
        ("memory_size",),
        ("device_memory", rig.buffers[0].pointer, 1000),
        *(("address", name, array.pointer) for name, array in arrays),
        ("execute", 7),
        ("pop",),
    ]


@RTX
def test_later_calls_only_queue(rtx: bool) -> None:
    """As a recording needs it: no allocation, no new context, nothing said twice."""
    rig = _Rig(rtx)
    outputs = rig.runner(rig.inputs)
    rig.api.calls.clear()
    assert rig.runner(rig.inputs) == outputs
    assert rig.api.calls == [("push",), ("execute", 7), ("pop",)]
    rig.api.calls.clear()
    moved = FakeArray((2, 3, 5, 7))
    rig.runner([moved, rig.inputs[1]])
    assert rig.api.calls == [("push",), ("address", "x", moved.pointer), ("execute", 7), ("pop",)]
    assert len(rig.buffers) == 1


def test_runners_share_scratch_memory() -> None:
    rig = _Rig()
    small, large = rig.runner, rig.new_runner()
    small(rig.inputs)
    rig.api.scratch = 5000
    large(rig.inputs)
    assert [x.shape for x in rig.buffers] == [(1000,), (5000,)]
    assert [x.closed for x in rig.buffers] == [True, False]
    rig.api.calls.clear()
    # The first one learns of the move before it runs again.
    small(rig.inputs)
    pointer = rig.buffers[1].pointer
    assert rig.api.calls == [("push",), ("device_memory", pointer, 5000), ("execute", 7), ("pop",)]
    rig.workspace.close()
    rig.workspace.close()
    assert rig.buffers[1].closed


def test_a_context_without_scratch_memory_gets_an_address() -> None:
    rig = _Rig()
    rig.api.scratch = 0
    rig.runner(rig.inputs)
    assert rig.api.named("device_memory") == [(rig.buffers[0].pointer, 1)]


def test_versions_that_take_memory_as_a_property(monkeypatch: pytest.MonkeyPatch) -> None:
    from backends.tensorrt.stand_in import _Context

    monkeypatch.delattr(_Context, "set_device_memory")
    seen = []
    monkeypatch.setattr(_Context, "device_memory", property(None, lambda self, x: seen.append(x)), raising=False)
    rig = _Rig()
    rig.runner(rig.inputs)
    assert seen == [rig.buffers[0].pointer]


def test_other_inputs_are_refused() -> None:
    rig = _Rig()
    x, t = rig.inputs
    with pytest.raises(BackendError, match="input t is float16, expected float32"):
        rig.runner([x, FakeArray((2,))])
    rig.runner([x, t])
    rig.api.calls.clear()
    with pytest.raises(BackendError, match=r"keeps its first shapes .*\(2, 3, 5, 7\).* got .*\(2, 3, 5, 8\)"):
        rig.runner([FakeArray((2, 3, 5, 8)), t])
    assert rig.api.calls == []


def test_lengths_that_nobody_knows_reserve_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT calls them -1; a program of -1 elements would have been given one byte."""
    monkeypatch.setitem(TENSORS, "rate", (False, DataType.FLOAT, (-1, -1, -1, -1)))
    rig = _Rig()
    with pytest.raises(BundleError, match=r"x\.onnx is refused.*it makes rate of shape \[2, -1, 5, 7\]"):
        rig.runner(rig.inputs)
    assert rig.api.named("execute") == rig.api.named("address") == []
    driver = FakeDriver()
    with Context() as context:
        memory = DeviceMemory(Stream(context))
        with pytest.raises(BackendError, match=r"cannot have shape \(2, -1\)"):
            memory.new((2, -1), "float32")
    driver.assert_clean()


def test_attentions_that_share_queries_have_outputs_of_their_own() -> None:
    """Else the second would overwrite what the first gave, or write as much as the first had room for."""
    driver, launches = FakeDriver(), []
    kernels = cast(Kernels, SimpleNamespace(criss_cross_attention=lambda *arrays: launches.append(arrays)))
    with Context() as context:
        memory = DeviceMemory(Stream(context))
        attention = _Attention(kernels, memory)
        q, k, v, other, wider = (memory.new((1, 3, 4, n), "float16") for n in (16, 16, 32, 32, 64))
        places = [(q, k, v), (q, k, other), (q, k, wider), (q, q, v)]
        first = [attention(place)[0] for place in places]
        assert len({x.pointer for x in first}) == 4
        assert [x.shape for x in first] == [place[2].shape for place in places]
        assert [attention(place)[0] for place in places] == first
        for *_, row_acc, row_lse, out in launches:
            assert (row_acc.shape, row_lse.shape) == (out.shape, out.shape[:3])
        memory.close()
    driver.assert_clean()


@pytest.mark.parametrize("refused", ["context", "input_shape", "infer_shapes", "address", "execute"])
def test_failures_carry_the_message_and_can_be_repeated(refused: str) -> None:
    rig = _Rig()
    rig.api.refuse = {refused}
    with pytest.raises(BackendError, match=f"no {refused}"):
        rig.runner(rig.inputs)
    assert rig.api.calls[-1] == ("pop",)
    rig.api.refuse = set()
    assert len(rig.runner(rig.inputs)) == 2
    assert len(rig.api.named("execute")) == 1 + (refused == "execute")


def test_capturable() -> None:
    rig = _Rig(rtx=True)
    rig.runner(rig.inputs)
    rig.runner.check_capturable()
    assert rig.api.calls[-3:] == [("push",), ("capturable", 7), ("pop",)]
    rig.api.refuse = {"capturable"}
    with pytest.raises(BackendError, match="cannot record the segment in a CUDA graph: no capturable"):
        rig.runner.check_capturable()
    # The full TensorRT has no such question.
    other = _Rig()
    other.runner(other.inputs)
    other.runner.check_capturable()


def test_closed_runners_start_anew() -> None:
    rig = _Rig()
    rig.runner(rig.inputs)
    rig.runner.close()
    rig.runner.close()
    rig.runner([FakeArray((1, 3, 9, 9)), FakeArray((1,), "float32")])
    assert len(rig.api.named("context")) == 2


def test_recorded_through_the_cuda_layer() -> None:
    """As a backend does it: two segments in a row, a plain pass, a recording, a replay; nothing is left behind."""
    api, driver = StandIn(rtx=True), FakeDriver()
    with Context() as context:
        stream = Stream(context)
        workspace = Workspace(lambda nbytes: DeviceBuffer(context, nbytes, stream))
        library = TensorRT(api, "tensorrt_rtx")
        owned: list[DeviceBuffer] = []

        def new_array(shape: tuple[int, ...], dtype: str) -> FakeArray:
            owned.append(DeviceBuffer(context, 4 * math.prod(shape), stream))
            array = FakeArray(shape, dtype)
            array.pointer = owned[-1].pointer
            return array

        inputs = [FakeArray((1, 3, 4, 6)), FakeArray((1,), "float32")]
        with context.current():
            engine = SegmentEngine(library, library.load(b"plan"), STAGE, RuntimeCache(CompiledCache(None), {}))
        runners = [SegmentRunner(engine, stream, workspace, new_array) for _ in range(2)]
        for runner in runners:
            runner(inputs)
            runner.check_capturable()
        api.calls.clear()
        graph = record(stream, lambda: [runner(inputs) for runner in runners])
        # A recording would refuse to allocate.
        assert api.calls == [("execute", stream.handle)] * 2
        api.calls.clear()
        graph.launch(stream)
        assert api.calls == []
        graph.close()
        for item in (*runners, workspace, *owned):
            item.close()
    driver.assert_clean()
