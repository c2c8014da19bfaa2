"""Compiles a bundle's segments, and keeps what it compiled: on disk for all sizes, in memory for one."""

from __future__ import annotations

import io
import logging
import threading
from dataclasses import dataclass
from typing import Any

import openvino as ov

from engine.backends.compiled_cache import CompiledCache
from engine.backends.openvino.graph import (
    FORM,
    keep_layout_at_scales,
    lay_channels_last,
    put_channels_first,
    read_segment,
)
from engine.bundle.bundle import Bundle, SegmentStage
from engine.errors import BackendError
from engine.system.recently_used import RecentlyUsed

_log = logging.getLogger("engine")

# Pieces of code that a model keeps: those of some eight sizes of picture.
_MOST_GENERATED = 500
# Models for one size that are kept: those of some four sizes of picture.
_MOST_SIZED = 24
Shapes = tuple[tuple[int, ...], ...]
# OpenVINO says of most things that they failed, not why.
_ADVICE = "if it was not for lack of memory, export the bundle again"


@dataclass(frozen=True)
class Precision:
    """How segments compute.

    Attributes:
        element: of the maps between segments, and of what computes on them.
        variant: key of ``SegmentStage.typed``, where the segment has a graph of its own for this; "" for its graph.
    """

    element: ov.Type
    variant: str = ""


class SegmentModels:
    """The compiled models of a bundle's segments. Threads may share it.

    Args:
        threads: that one inference computes on.
        cache: for the models that take any size. One made for a size is not worth its place on a disk.
    """

    def __init__(self, core: ov.Core, bundle: Bundle, precision: Precision, threads: int, cache: CompiledCache):
        self._core, self._bundle, self._precision, self._cache = core, bundle, precision, cache
        self._options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision.element,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # Else every inference on one thread, of whatever caller, computes on the same core.
            "ENABLE_CPU_PINNING": threads > 1,
            # A model for all sizes keeps what it generated for each, some 4 MB in all, up to 5,000 pieces by default.
            "CPU_RUNTIME_CACHE_CAPACITY": _MOST_GENERATED,
        }
        encoder, decoder = bundle.programs["encoder"], bundle.programs["decoder"]
        # All ends of the programs but the features, which go from one to the other.
        self._public = {*encoder.inputs, *encoder.outputs[1:], *decoder.inputs[1:], *decoder.outputs}
        self._lock = threading.Lock()
        self._models: dict[str, ov.CompiledModel] = {}
        self._sized: RecentlyUsed[tuple[str, Shapes], ov.CompiledModel] = RecentlyUsed(_MOST_SIZED)

    @property
    def element(self) -> ov.Type:
        """Type of the maps between segments."""
        return self._precision.element

    def for_all_sizes(self, stage: SegmentStage) -> ov.CompiledModel:
        """The model for pictures of any size, with the segment's own layouts.

        Outputs whose names end in :data:`engine.backends.openvino.graph.CHANNELS_FIRST` have the other.
        """
        with self._lock:
            if stage.graph not in self._models:
                self._models[stage.graph] = self._load(stage) or self._compile_and_store(stage)
            return self._models[stage.graph]

    def for_size(self, stage: SegmentStage, shapes: Shapes) -> ov.CompiledModel:
        """The model for inputs of these shapes, in the order of the stage, whose maps have their channels last."""
        with self._lock:
            return self._sized.find(
                (stage.graph, shapes), lambda: self._compile(stage, self.read_for_size(stage, shapes))
            )

    def read_for_size(self, stage: SegmentStage, shapes: Shapes) -> ov.Model:
        """What :meth:`for_size` compiles."""
        model = self._read(stage)
        lay_channels_last(model, self._public)
        model.reshape(dict(zip(stage.inputs, map(list, shapes), strict=True)))
        return model

    def _file(self, stage: SegmentStage) -> str:
        return stage.typed[self._precision.variant] if self._precision.variant else stage.graph

    def _read(self, stage: SegmentStage) -> ov.Model:
        path = self._bundle.path / self._file(stage)
        try:
            return read_segment(self._core, path, self._public, self._precision.element)
        except (RuntimeError, MemoryError) as error:
            raise BackendError(f"OpenVINO cannot read {path}: {error}; {_ADVICE}") from error

    def _compile(self, stage: SegmentStage, model: ov.Model) -> ov.CompiledModel:
        try:
            return self._core.compile_model(model, "CPU", self._options)
        except (RuntimeError, MemoryError) as error:
            path = self._bundle.path / self._file(stage)
            raise BackendError(f"OpenVINO cannot compile {path}: {error}; {_ADVICE}") from error

    def _compile_and_store(self, stage: SegmentStage) -> ov.CompiledModel:
        model = self._read(stage)
        put_channels_first(model, self._public)
        keep_layout_at_scales(model)
        compiled = self._compile(stage, model)
        self._cache.store(*self._identity(stage), compiled.export_model().getvalue())
        return compiled

    def _load(self, stage: SegmentStage) -> ov.CompiledModel | None:
        name, facts = self._identity(stage)
        stored = self._cache.load(name, facts)
        if stored is None:
            return None
        try:
            return self._core.import_model(io.BytesIO(stored), "CPU", self._options)
        except RuntimeError as error:
            _log.warning("OpenVINO refuses the compiled model of %s (%s); it is compiled again", name, error)
            self._cache.discard(name, facts)
            return None

    def _identity(self, stage: SegmentStage) -> tuple[str, dict[str, object]]:
        """Name of a compiled model, and all that it depends on."""
        return self._file(stage).removesuffix(".onnx"), {
            "bundle": self._bundle.digest,
            "graph": self._file(stage),
            "element": self._precision.element.get_type_name(),
            "form": FORM,
            "options": {key: str(value) for key, value in self._options.items()},
            "openvino": ov.get_version(),
            "processor": self._core.get_property("CPU", "FULL_DEVICE_NAME"),
            "capabilities": sorted(self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        }
