"""Checkpoint -> bundle folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import onnx

from engine.bundle.bundle import WEIGHTS_FILE, ProgramSpec, SegmentStage, write_manifest
from engine.bundle.manifest import MOST_STEPS
from engine.config import CountingRule, check_range
from engine.errors import ConfigError
from engine.export.checkpoint import Checkpoint, load_checkpoint
from engine.export.onnx_graph import trace_decoder, trace_encoder
from engine.export.partition import partition
from engine.export.typed_onnx import REDUCED_TYPES, typed_name, typed_segment
from engine.export.weights import point_into_weights, save_weights, weight_spans
from engine.model.network import CrowdNetwork

_RECORDED = ("torch", "onnx", "onnxscript", "safetensors")
_TRACERS = {"encoder": trace_encoder, "decoder": trace_decoder}


def export_bundle(
    checkpoint: str | Path,
    out: str | Path,
    name: str,
    *,
    counting: Mapping[int, CountingRule] | None = None,
    default_steps: int = 2,
) -> Path:
    """Write the bundle of a checkpoint's averaged weights.

    Args:
        checkpoint: file written by training.
        out: the bundle's folder; must not exist. It appears only once complete.
        name: of the model, for results and logs.
        counting: rule per number of steps; None takes those that calibration put into the checkpoint.
        default_steps: denoising steps when a caller names none.

    Returns:
        ``out``.

    Errors: ConfigError for a file that is no checkpoint, one without counting rules, an ``out`` that exists, or steps
    and rules that cannot be.
    """
    check_range("steps", default_steps, 1, MOST_STEPS)
    for steps, rule in (counting or {}).items():
        check_range("steps", steps, 1, MOST_STEPS)
        if not 0 < rule.low <= rule.high <= 1:
            raise ConfigError(f"the peak threshold must be 0 < LOW <= HIGH <= 1, got {rule.low:g} {rule.high:g}")
    target = Path(out)
    if target.exists():
        raise ConfigError(f"{target} exists already; remove it or name another folder")
    source = load_checkpoint(checkpoint)
    rules = dict(counting or source.counting)
    if not rules:
        raise ConfigError(
            f"{checkpoint} holds no counting rule: calibrate it first, or give the range of the peak threshold"
        )
    with _appearing(target) as folder:
        _write(source, folder, name, rules, default_steps)
    return target


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its name on success and vanishes on failure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        # Temporary folders and safetensors files are private; a bundle is for all.
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder)
        raise


def _write(source: Checkpoint, folder: Path, name: str, rules: dict[int, CountingRule], default_steps: int) -> None:
    weights = folder / WEIGHTS_FILE
    save_weights(source.network, weights)
    spans = weight_spans(weights)
    programs = {key: _write_program(source.network, key, folder, spans) for key in _TRACERS}
    write_manifest(
        folder,
        name=name,
        model=source.network.config,
        default_steps=default_steps,
        counting=rules,
        programs=programs,
        versions={package: metadata.version(package) for package in _RECORDED},
    )


def _write_program(network: CrowdNetwork, name: str, folder: Path, spans: dict[str, tuple[int, int]]) -> ProgramSpec:
    whole = _TRACERS[name](network)
    point_into_weights(whole, f"{name}.", spans)
    parts = partition(whole, name)
    for file, model in {f"{name}.onnx": whole, **parts.graphs}.items():
        onnx.save(model, folder / file)
        # By path, so that the external data is checked too.
        onnx.checker.check_model(str(folder / file), full_check=True)
    stages = tuple(_with_types(x, parts.graphs, folder) if isinstance(x, SegmentStage) else x for x in parts.stages)
    inputs, outputs = (tuple(x.name for x in values) for values in (whole.graph.input, whole.graph.output))
    return ProgramSpec(f"{name}.onnx", inputs, outputs, stages)


def _with_types(stage: SegmentStage, graphs: Mapping[str, onnx.ModelProto], folder: Path) -> SegmentStage:
    """Write the segment of ``stage`` in every reduced type."""
    typed = {compute_type: typed_name(stage.graph, compute_type) for compute_type in REDUCED_TYPES}
    for compute_type, file in typed.items():
        onnx.save(typed_segment(graphs[stage.graph], compute_type), folder / file)
        # Not in full: this opset has no bfloat16 convolution, though the runtimes do.
        onnx.checker.check_model(str(folder / file))
    return replace(stage, typed=typed)
