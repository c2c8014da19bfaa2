"""The TensorRT engines of a bundle's segments: loaded from the cache, or built and kept there."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.backends.compiled_cache import CompiledCache
from engine.backends.tensorrt.library import EngineRefusedError, ShapeRange, TensorRT
from engine.backends.tensorrt.runtime_cache import RuntimeCache
from engine.bundle.bundle import WEIGHTS_FILE, Bundle, SegmentStage
from engine.errors import BackendError

_log = logging.getLogger("engine")

_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


class EngineStore:
    """The engines of a bundle, each made once; may be used by several threads.

    Args:
        library: TensorRT or TensorRT-RTX.
        bundle: with segments in ``compute_type``.
        compute_type: "float16" or "bfloat16".
        gpu: what sets the GPU and its driver apart from others, for the cache: name, capability, driver version.
        cache: where engines are kept.
    """

    def __init__(
        self,
        library: TensorRT,
        bundle: Bundle,
        compute_type: str,
        gpu: Mapping[str, str | int],
        cache: CompiledCache,
    ):
        self._library, self._bundle, self._cache = library, bundle, cache
        self._compute_type = compute_type
        self._targets = library.targets(str(gpu["capability"]))
        self._facts: dict[str, object] = {
            "gpu": dict(gpu),
            "library": library.name,
            "options": library.options,
            "targets": self._targets,
            "weights": _sha256(bundle.path / WEIGHTS_FILE),
        }
        self._engines: dict[tuple[str, ShapeRange], SegmentEngine] = {}
        self._runtime_cache = RuntimeCache(cache, {**self._facts, "type": compute_type})
        self._lock = threading.Lock()

    def engine(self, stage: SegmentStage, shapes: ShapeRange) -> SegmentEngine:
        """The engine of a segment for inputs in a range; the device's context must be current.

        Raises:
            BackendError: the bundle has no such segment in this type, or it cannot be built.
        """
        with self._lock:
            key = (stage.graph, shapes)
            if key not in self._engines:
                self._engines[key] = self._make(stage, shapes)
            return self._engines[key]

    def build_common(self) -> None:
        """Make those of common sizes, so that the first picture does not wait; the device's context must be current.

        Raises:
            BackendError: as of :meth:`engine`.
        """
        for stage in segments(self._bundle):
            self.engine(stage, ShapeRange())

    def close(self) -> None:
        """Free the engines, once their runners are closed; the device's context must be current."""
        try:
            self._runtime_cache.close()
        finally:
            while self._engines:
                self._engines.popitem()[1].close()

    def _make(self, stage: SegmentStage, shapes: ShapeRange) -> SegmentEngine:
        graph = typed_graph(self._bundle, stage, self._compute_type)
        ends = [shapes.smallest, shapes.usual, shapes.largest]
        name, facts = graph.stem, {**self._facts, "graph": _sha256(graph), "shapes": ends}
        kept = self._cache.load(name, facts)
        if kept is not None:
            try:
                return SegmentEngine(self._library, self._library.load(kept), stage, self._runtime_cache)
            except EngineRefusedError as error:
                _log.warning("%s; it is built again", error)
                self._cache.discard(name, facts)
        _log.info("building the engine of %s with %s", graph, self._library.name)
        built = self._library.build(graph, shapes, self._targets)
        engine = SegmentEngine(self._library, self._library.load(built), stage, self._runtime_cache)
        # After it was loaded: an engine that this machine refuses is not worth keeping.
        self._cache.store(name, facts, built)
        return engine


class SegmentEngine:
    """A loaded engine; it makes any number of contexts, which share its weights.

    Args:
        library: that loaded it.
        engine: of the library.
        stage: it was built for.
        runtime_cache: of its contexts.

    Attributes:
        name: of the segment's file.
        inputs, outputs: names in the order of the stage.
        types: type of each, such as "float16".
    """

    def __init__(self, library: TensorRT, engine: Any, stage: SegmentStage, runtime_cache: RuntimeCache):
        self.library, self._engine, self._runtime_cache = library, engine, runtime_cache
        self.name, self.inputs, self.outputs = stage.graph, stage.inputs, stage.outputs
        names = [engine.get_tensor_name(x) for x in range(engine.num_io_tensors)]
        if set(names) != {*stage.inputs, *stage.outputs}:
            raise BackendError(f"{stage.graph}: the engine has inputs and outputs {names}, the bundle says otherwise")
        kinds = {getattr(library.api.DataType, key): value for key, value in _TYPES.items()}
        self.types = {name: kinds[engine.get_tensor_dtype(name)] for name in names}

    def new_context(self) -> Any:
        """An execution context that takes its memory from the caller and never captures by itself."""
        strategy = self.library.api.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(self._engine, "create_runtime_config"):
            context = self._engine.create_execution_context(strategy)
        else:
            config = self._engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(strategy)
            # TensorRT-RTX: its own graphs would get in the way of ours; and what our graph records must be the
            # kernels made for this very shape, not those that bridge the time until these are compiled.
            if hasattr(config, "cuda_graph_strategy"):
                config.cuda_graph_strategy = self.library.api.CudaGraphStrategy.DISABLED
            if hasattr(config, "dynamic_shapes_kernel_specialization_strategy"):
                eager = self.library.api.DynamicShapesKernelSpecializationStrategy.EAGER
                config.dynamic_shapes_kernel_specialization_strategy = eager
            self._runtime_cache.attach(config)
            context = self._engine.create_execution_context(config)
        if context is None:
            raise BackendError(f"{self.library.name} cannot make a context: {self.library.last_errors()}")
        return context

    def close(self) -> None:
        """Free it, once its contexts are, even if somebody still holds this object, which makes none any more."""
        self._engine = None


def segments(bundle: Bundle) -> Iterator[SegmentStage]:
    """What TensorRT runs of a bundle."""
    for program in bundle.programs.values():
        yield from (stage for stage in program.stages if isinstance(stage, SegmentStage))


def typed_graph(bundle: Bundle, stage: SegmentStage, compute_type: str) -> Path:
    """The ONNX file of a segment in a reduced type.

    Raises:
        BackendError: the bundle has none.
    """
    if compute_type not in stage.typed:
        has = ", ".join(sorted(stage.typed)) or "none"
        raise BackendError(
            f"{bundle.path} has no {compute_type} segments (reduced types: {has}); "
            "export it again with this version, or use another compute_type"
        )
    return bundle.path / stage.typed[compute_type]


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
