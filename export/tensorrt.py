"""Builds every segment of a bundle with TensorRT, to see that it can; TensorRT-RTX needs no GPU for that."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from engine.backends.tensorrt.library import ShapeRange, TensorRT, load_tensorrt
from engine.bundle.bundle import SegmentStage, load_bundle
from engine.errors import BundleError
from engine.export.typed_onnx import REDUCED_TYPES


@dataclass(frozen=True)
class BuiltSegment:
    """One engine: of which file, for which compute capability ("" is the package's choice), its size and its time."""

    graph: str
    capability: str
    nbytes: int
    seconds: float


@dataclass(frozen=True)
class BuildReport:
    """All engines of one bundle; ``str()`` is a table."""

    bundle: str
    library: str
    rows: tuple[BuiltSegment, ...]

    def __str__(self) -> str:
        head = f"{'segment':<28}{'capability':>12}{'KiB':>10}{'seconds':>10}"
        lines = [
            f"{row.graph:<28}{row.capability or 'default':>12}{row.nbytes / 1024:>10.0f}{row.seconds:>10.2f}"
            for row in self.rows
        ]
        total = sum(row.seconds for row in self.rows)
        return "\n".join([head, *lines, f"{self.bundle}: {len(self.rows)} engines by {self.library} in {total:.1f} s"])


def build_bundle(
    path: str | Path,
    *,
    compute_types: tuple[str, ...] = tuple(REDUCED_TYPES),
    capabilities: tuple[str, ...] = ("",),
    library: TensorRT | None = None,
) -> BuildReport:
    """Build every segment of a bundle in every type and for every compute capability; the engines are not kept.

    Args:
        path: bundle folder or "default".
        compute_types: of "float16" and "bfloat16".
        capabilities: such as ("8.9", "12.0"), with TensorRT-RTX; "" is its default, all that it knows.
        library: None is the installed one.

    Raises:
        BackendError: there is no TensorRT, or it cannot build a segment.
        BundleError: the bundle is damaged, or has no segments in these types.
    """
    bundle = load_bundle(path)
    builder = library or load_tensorrt()
    rows = []
    for stage in (x for program in bundle.programs.values() for x in program.stages):
        if not isinstance(stage, SegmentStage):
            continue
        for compute_type in compute_types:
            if compute_type not in stage.typed:
                raise BundleError(f"{bundle.path}: no {compute_type} segment of {stage.graph}; export it again")
            graph = stage.typed[compute_type]
            rows += [_build(builder, bundle.path / graph, capability) for capability in capabilities]
    return BuildReport(bundle.name, builder.name, tuple(rows))


def _build(builder: TensorRT, graph: Path, capability: str) -> BuiltSegment:
    start = time.perf_counter()
    engine = builder.build(graph, ShapeRange(), (capability,) if capability else ())
    return BuiltSegment(graph.name, capability, len(engine), time.perf_counter() - start)
