"""A stand-in of the TensorRT packages: it records what is asked of it, and can be told to refuse."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

Calls = list[tuple[Any, ...]]


class DataType(enum.Enum):
    FLOAT, HALF, BF16, INT64 = range(4)


class Severity(enum.Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


class Strategy(enum.Enum):
    STATIC, USER_MANAGED = range(2)


class Logger:
    """The base of TensorRT's loggers."""

    Severity = Severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


# name: (is input, type, shape); -1 is the batch, then the height and width of the first input.
TENSORS = {
    "x": (True, DataType.HALF, (-1, 3, -1, -1)),
    "t": (True, DataType.FLOAT, (-1,)),
    "packed": (False, DataType.HALF, (-1, 16, -1, -1)),
    "rate": (False, DataType.FLOAT, (-1, 1, -1, -1)),
}


class StandIn(SimpleNamespace):
    """``tensorrt`` in version 10, or ``tensorrt_rtx``; ``calls`` is what happened, in order.

    ``refuse``: names of calls that fail. ``scratch``: bytes that a context wants.
    """

    # Each is a module of its own, as far as caches go.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, rtx: bool = False, version: str = "10.9.0"):
        super().__init__()
        self.__version__ = version
        self.rtx, self.calls, self.refuse, self.scratch = rtx, Calls(), set[str](), 1000
        self.parser_messages: list[str] = []
        self.ILogger, self.DataType, self.ExecutionContextAllocationStrategy = Logger, DataType, Strategy
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        if rtx:
            self.BuilderFlag.REQUIRE_USER_ALLOCATION = "REQUIRE_USER_ALLOCATION"
            self.EngineValidity = SimpleNamespace(VALID=0, SUBOPTIMAL=1, INVALID=2)
            self.EngineInvalidityDiagnostics = SimpleNamespace(__members__={"UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4})
            self.CudaGraphStrategy = SimpleNamespace(DISABLED="DISABLED")
            self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="EAGER")
            self.ComputeCapability = SimpleNamespace(__members__={"CURRENT": 1, "SM86": 86, "SM89": 89})
            self.validity = (0, 0)
        # What its runtime has compiled.
        self.compiled = b"code"

    def does(self, *call: Any) -> bool:
        """Record a call; False if it is to be refused, after an error was logged."""
        self.calls.append(call)
        if call[0] in self.refuse:
            self.logger.log(Severity.ERROR, f"no {call[0]}")
            self.logger.log(Severity.INFO, "chatter")
            return False
        return True

    def named(self, name: str) -> Calls:
        """The calls of one name, without it."""
        return [x[1:] for x in self.calls if x[0] == name]

    def runtime_config(self) -> Any:
        """What an engine's ``create_runtime_config`` gives; it does not refer to the engine."""
        config = SimpleNamespace(cuda_graph_strategy="?", dynamic_shapes_kernel_specialization_strategy="?")
        config.set_execution_context_allocation_strategy = lambda x: setattr(config, "allocation", x)
        config.create_runtime_cache = lambda: SimpleNamespace(
            deserialize=lambda blob: self.does("restore", blob),
            serialize=lambda: self.compiled if self.does("keep") else None,
        )
        config.set_runtime_cache = lambda cache: self.does("runtime_cache")
        return config

    def Builder(self, logger: Logger) -> Any:  # noqa: N802
        self.logger = logger
        if "Builder" in self.refuse:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return _Builder(self)

    def OnnxParser(self, network: Any, logger: Logger) -> Any:  # noqa: N802
        return SimpleNamespace(
            parse_from_file=lambda path: self.does("parse", path),
            num_errors=len(self.parser_messages),
            get_error=self.parser_messages.__getitem__,
        )

    def Runtime(self, logger: Logger) -> Any:  # noqa: N802
        self.logger = logger
        runtime = SimpleNamespace(
            deserialize_cuda_engine=lambda plan: _Engine(self) if self.does("deserialize", plan) else None
        )
        if self.rtx:
            runtime.engine_header_size = 4
            runtime.get_engine_validity = lambda head: (self.does("validity", head), self.validity)[1]
        return runtime


class _Builder:
    def __init__(self, api: StandIn):
        self._api = api

    def create_network(self, flags: int) -> Any:
        self._api.does("network", flags)
        inputs = [
            SimpleNamespace(
                name=name, shape=shape, get_dimension_name=lambda axis: {0: "batch", 2: "2*h32", 3: "2*w32"}.get(axis)
            )
            for name, (is_input, _, shape) in TENSORS.items()
            if is_input
        ]
        return SimpleNamespace(num_inputs=len(inputs), get_input=inputs.__getitem__)

    def create_builder_config(self) -> Any:
        api = self._api
        config = SimpleNamespace(
            clear_flag=lambda flag: api.does("clear_flag", flag),
            set_flag=lambda flag: api.does("set_flag", flag),
            add_optimization_profile=lambda profile: 0 if api.does("add_profile") else -1,
        )
        if api.rtx:
            config.set_compute_capability = lambda value, index: api.does("capability", value, index)
        self._config = config
        return config

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *ends: self._api.does("profile", *ends))

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        settings = [vars(config).get(x) for x in ("max_aux_streams", "num_compute_capabilities")]
        built = self._api.does("build", *settings)
        return f"plan {len(self._api.named('build'))}".encode() if built else None


class _Engine:
    def __init__(self, api: StandIn):
        self._api = api
        self.num_io_tensors = len(TENSORS)
        if api.rtx:
            self.create_runtime_config = api.runtime_config

    def get_tensor_name(self, index: int) -> str:
        return list(TENSORS)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return TENSORS[name][1]

    def create_execution_context(self, how: Any) -> Any:
        settings = (
            (how.allocation, how.cuda_graph_strategy, how.dynamic_shapes_kernel_specialization_strategy)
            if self._api.rtx
            else how
        )
        return _Context(self._api) if self._api.does("context", settings) else None


class _Context:
    def __init__(self, api: StandIn):
        self._api = api
        self._shapes: dict[str, tuple[int, ...]] = {}
        if api.rtx:
            self.is_stream_capturable = lambda stream: api.does("capturable", stream)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return self._api.does("input_shape", name, shape)

    def infer_shapes(self) -> list[str]:
        return [] if self._api.does("infer_shapes") else ["t"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch, _, height, width = self._shapes["x"]
        return (batch, TENSORS[name][2][1], height, width)

    def update_device_memory_size_for_shapes(self) -> int:
        self._api.does("memory_size")
        return self._api.scratch

    def set_device_memory(self, pointer: int, size: int) -> None:
        self._api.does("device_memory", pointer, size)

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        return self._api.does("address", name, pointer)

    def execute_async_v3(self, stream: int) -> bool:
        return self._api.does("execute", stream)


class FakeStream:
    """A stream of a context, which must be current where TensorRT is called."""

    def __init__(self, api: StandIn, handle: int = 7):
        self.handle, self.context, self._api = handle, self, api

    @contextmanager
    def current(self) -> Iterator[None]:
        self._api.calls.append(("push",))
        try:
            yield
        finally:
            self._api.calls.append(("pop",))


class FakeArray:
    """An array, or a buffer, at an address of its own."""

    _next = 0x1000

    def __init__(self, shape: tuple[int, ...], dtype: str = "float16"):
        self.shape, self.dtype, self.closed = shape, dtype, False
        self.pointer = FakeArray._next
        FakeArray._next += 0x1000

    def close(self) -> None:
        assert not self.closed
        self.closed = True
