"""TensorRT or TensorRT-RTX through the calls that both have: parse and build a segment, load an engine.

Types are the graph's: every network is strongly typed, which newer versions take for granted and older ones must be
told. What only one of the two packages has is used where it is there.
"""

from __future__ import annotations

import functools
import importlib
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.config import FEATURE_STRIDE, PADDING
from engine.errors import BackendError
from engine.image.tiles import MAX_WHOLE_PIXELS
from engine.system.recordings import RECORDING

_log = logging.getLogger("engine")

# In the order of preference: the first is tuned on the GPU itself.
_EXTRAS = ("tensorrt", "tensorrt-rtx")
_OLDEST = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 0)}
# A dimension as the exported graphs name it, such as batch or 2*h32.
_DIMENSION = re.compile(r"(?:(\d+)\*)?(batch|[hw]32|[hw]8)")
_UNITS = {
    "batch": (0, 1),
    "h32": (1, PADDING),
    "w32": (2, PADDING),
    "h8": (1, FEATURE_STRIDE),
    "w8": (2, FEATURE_STRIDE),
}
# Pixels of the largest picture in one piece, once its longer side was rounded up to a power of two.
_MOST_PIXELS = 2 * MAX_WHOLE_PIXELS


@dataclass(frozen=True)
class ShapeRange:
    """Inputs that one engine serves, each as (pictures, height, width) in pixels.

    Attributes:
        smallest, largest: limits, inclusive.
        usual: what the engine is tuned for.
    """

    smallest: tuple[int, int, int] = (1, 32, 32)
    usual: tuple[int, int, int] = (1, 768, 1024)
    largest: tuple[int, int, int] = (1, 2048, 2048)

    @classmethod
    def holding(cls, pictures: int, height: int, width: int) -> ShapeRange:
        """The common range, or else one of few larger ones that holds inputs of this size.

        >>> ShapeRange.holding(1, 1088, 1920) == ShapeRange()
        True
        >>> ShapeRange.holding(1, 3008, 4000).largest
        (1, 4096, 4096)
        >>> ShapeRange.holding(1, 32, 9600).largest
        (1, 512, 16384)
        """
        common = cls()
        wanted = (pictures, height, width)
        if all(x <= y for x, y in zip(wanted, common.largest, strict=True)):
            return common
        # Powers of two, so that there are few ranges.
        many, tall, wide = (1 << (x - 1).bit_length() for x in wanted)
        # The longer one side of a picture in one piece, the shorter is the other. TensorRT refuses ranges that end in
        # activations of 2**31 values, even if no picture has them.
        rows, columns = (min(common.largest[1], _MOST_PIXELS // side) for side in (wide, tall))
        largest = (many, max(tall, rows), max(wide, columns))
        # The range of what exceeds the common one, tuned for the middle of the rest.
        ends = zip(common.usual, common.largest, largest, strict=True)
        pictures, height, width = (new * 3 // 4 if new > old else min(x, new) for x, old, new in ends)
        return cls(common.smallest, (pictures, height, width), largest)


class EngineRefusedError(BackendError):
    """A runtime refused an engine that was built for another machine or version."""


class TensorRT:
    """One of the two packages.

    Args:
        api: the imported package, or a stand-in.
        package: its name.

    Attributes:
        api: the package.
        name: package and version, for the user and for cache keys.
        options: how engines are built, for cache keys.
    """

    options = "strongly typed, no TF32, user allocation, no auxiliary streams"

    def __init__(self, api: Any, package: str):
        self.api = api
        self.name = f"{package} {api.__version__}"
        self._logger = _logger(api)
        self._runtime: Any = None
        self._lock = threading.Lock()

    def build(self, graph: str | Path, shapes: ShapeRange, capabilities: tuple[str, ...] = ()) -> bytes:
        """The engine of a typed segment.

        Args:
            graph: ONNX file; its weights lie beside it.
            shapes: that the engine serves.
            capabilities: such as ("8.9",): GPUs to build for, where the package can. Without, it is the package's
                choice: TensorRT builds for the GPU at hand, TensorRT-RTX for all that it knows.

        Raises:
            BackendError: the graph cannot be parsed or built; with the package's own messages.
        """
        with self._session(f"build {graph}"):
            return self._build(str(graph), shapes, capabilities)

    def targets(self, capability: str) -> tuple[str, ...]:
        """What to :meth:`build` for, so that the engine runs on a GPU of a capability such as "8.9"; () by default.

        TensorRT builds for the GPU at hand anyway. TensorRT-RTX, if not told, leaves out some that it can build for,
        and has code for some that it cannot be told of (Hopper); :meth:`load` has its verdict on those.
        """
        known = getattr(self.api, "ComputeCapability", None)
        return (capability,) if known and f"SM{capability.replace('.', '')}" in known.__members__ else ()

    def load(self, engine: bytes) -> Any:
        """The engine, ready to make contexts of.

        Raises:
            EngineRefusedError: it was built for another GPU, driver or version.
            BackendError: there is no GPU to load it on.
        """
        with self._session("load an engine"):
            if self._runtime is None:
                self._runtime = self.api.Runtime(self._logger)
            self._check_validity(engine)
            loaded = self._runtime.deserialize_cuda_engine(engine)
            if loaded is None:
                raise EngineRefusedError(f"{self.name} cannot load an engine: {self.last_errors()}")
            return loaded

    def last_errors(self) -> str:
        """What the package logged since it last began to build or load, for the message of an error."""
        return "; ".join(self._logger.errors) or "it gave no reason"

    @contextmanager
    def _session(self, action: str) -> Iterator[None]:
        # One at a time: messages then belong to one engine, and tactics are not timed while others run. And not while a
        # graph is recorded: TensorRT may wait for the whole device, which then fails, and ends the recording.
        with self._lock, RECORDING:
            self._logger.errors.clear()
            try:
                yield
            except BackendError:
                raise
            # The bindings raise these two, such as when there is no GPU.
            except (RuntimeError, TypeError) as error:
                raise BackendError(f"{self.name} cannot {action}: {error}; {self.last_errors()}") from error

    def _build(self, graph: str, shapes: ShapeRange, capabilities: tuple[str, ...]) -> bytes:
        builder = self.api.Builder(self._logger)
        network = builder.create_network(self._network_flags())
        parser = self.api.OnnxParser(network, self._logger)
        if not parser.parse_from_file(graph):
            messages = "; ".join(str(parser.get_error(x)) for x in range(parser.num_errors))
            raise BackendError(f"{self.name} cannot parse {graph}: {messages}")
        config = builder.create_builder_config()
        self._set_options(config)
        self._set_capabilities(config, capabilities)
        profile = builder.create_optimization_profile()
        for tensor in (network.get_input(x) for x in range(network.num_inputs)):
            ends = (shapes.smallest, shapes.usual, shapes.largest)
            profile.set_shape(tensor.name, *(_input_shape(graph, tensor, end) for end in ends))
        if config.add_optimization_profile(profile) < 0:
            raise BackendError(f"{self.name} cannot build {graph} for {shapes}: {self.last_errors()}")
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise BackendError(f"{self.name} cannot build {graph}: {self.last_errors()}")
        return bytes(engine)

    def _network_flags(self) -> int:
        flag = getattr(getattr(self.api, "NetworkDefinitionCreationFlag", None), "STRONGLY_TYPED", None)
        return 0 if flag is None else 1 << int(flag)

    def _set_options(self, config: Any) -> None:
        flags = self.api.BuilderFlag
        # What the graph says is float32 is meant to be: TF32 keeps 11 bits of it.
        if hasattr(flags, "TF32"):
            config.clear_flag(flags.TF32)
        # Else a large shape may make an engine allocate while it runs, which no captured graph can repeat.
        if hasattr(flags, "REQUIRE_USER_ALLOCATION"):
            config.set_flag(flags.REQUIRE_USER_ALLOCATION)
        # All work stays on the caller's stream.
        config.max_aux_streams = 0

    def _set_capabilities(self, config: Any, capabilities: tuple[str, ...]) -> None:
        if not capabilities:
            return
        if not hasattr(config, "set_compute_capability"):
            raise BackendError(f"{self.name} builds for the GPU at hand only, got capabilities {capabilities}")
        config.num_compute_capabilities = len(capabilities)
        known = self.api.ComputeCapability.__members__
        for index, text in enumerate(capabilities):
            name = f"SM{text.replace('.', '')}"
            if name not in known or not config.set_compute_capability(known[name], index):
                targets = ", ".join(x.removeprefix("SM") for x in known if x.startswith("SM"))
                raise BackendError(f"{self.name} cannot build for capability {text}; it knows {targets}")

    def _check_validity(self, engine: bytes) -> None:
        # TensorRT-RTX judges an engine by its header, before any of it is loaded.
        if not hasattr(self._runtime, "get_engine_validity"):
            return
        verdict, diagnostics = self._runtime.get_engine_validity(engine[: self._runtime.engine_header_size])
        kinds = self.api.EngineInvalidityDiagnostics.__members__
        reasons = ", ".join(name for name, bit in kinds.items() if int(diagnostics) & int(bit)) or self.last_errors()
        if verdict == self.api.EngineValidity.INVALID:
            raise EngineRefusedError(f"{self.name} refuses an engine: {reasons}")
        if verdict == self.api.EngineValidity.SUBOPTIMAL:
            _log.warning("%s calls an engine suboptimal here: %s", self.name, reasons)


@functools.cache
def load_tensorrt() -> TensorRT:
    """The installed TensorRT: the full one before TensorRT-RTX.

    Raises:
        BackendError: neither can be imported; with the reason of each.
    """
    return find_tensorrt(importlib.import_module)


def find_tensorrt(import_module: Callable[[str], Any]) -> TensorRT:
    """As :func:`load_tensorrt`, with the function that imports a module by name."""
    reasons = []
    for package, oldest in _OLDEST.items():
        try:
            api = import_module(package)
        # Besides ImportError: a library that the package loads is missing (OSError), or says no (RuntimeError).
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{package}: {error}")
            continue
        if _version(api) >= oldest:
            _log.info("TensorRT segments run in %s %s", package, api.__version__)
            return TensorRT(api, package)
        reasons.append(f"{package}: version {api.__version__}, expected {'.'.join(map(str, oldest))} or newer")
    install = " or ".join(f"pip install 'crowd-engine[{x}]'" for x in _EXTRAS)
    raise BackendError(f"no TensorRT is installed ({'; '.join(reasons)}): {install}, or use device='cpu'")


def _version(api: Any) -> tuple[int, ...]:
    return tuple(int(x) for x in re.findall(r"\d+", api.__version__)[:2])


def _input_shape(graph: str, tensor: Any, size: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of an input for pictures of a size; the graph says by name how each dimension follows from it."""
    return tuple(_dimensions(graph, tensor, size))


def _dimensions(graph: str, tensor: Any, size: tuple[int, int, int]) -> Iterator[int]:
    for axis, length in enumerate(tensor.shape):
        if length >= 0:
            yield length
            continue
        match = _DIMENSION.fullmatch(tensor.get_dimension_name(axis) or "")
        if match is None:
            raise BackendError(f"{graph}: axis {axis} of {tensor.name} has no known name; export the bundle again")
        index, unit = _UNITS[match[2]]
        yield int(match[1] or 1) * size[index] // unit


@functools.cache
def _logger(api: Any) -> Any:
    """The logger that keeps the last errors, for the exceptions they become; a package takes only one per process."""
    severe = (api.ILogger.Severity.INTERNAL_ERROR, api.ILogger.Severity.ERROR)

    class Collector(api.ILogger):
        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=10)

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.errors.append(message)
            # Warnings are left out too: they concern the export of a model, not its use.
            _log.debug("TensorRT: %s", message)

    return Collector()
