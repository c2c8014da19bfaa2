"""The programs of a bundle followed from stage to stage before anything runs: every tensor fits what reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.bundle.graph_check import check_graph
from engine.bundle.graph_rules import attention, split
from engine.bundle.graph_shapes import Known, Side, fixed, require, sides
from engine.bundle.onnx_parts import BFLOAT16, FLOAT, FLOAT16, INT64, OnnxFile
from engine.bundle.stages import KernelStage, ProgramSpec, SegmentStage, SplitStage
from engine.config import FEATURE_STRIDE, PADDING, ModelConfig

# Type of the maps between segments, by the variant of the segments; "" is the graph itself.
VARIANTS = {"": FLOAT, "float16": FLOAT16, "bfloat16": BFLOAT16, "int8": FLOAT}
# Ends of the programs that are float32 in every variant.
_ALWAYS_FLOAT32 = frozenset({"t", "rate", "signature", "x_0"})


def check_program(name: str, program: ProgramSpec, model: ModelConfig, read: Callable[[str], OnnxFile]) -> None:
    """Follow a program's tensors through its whole graph, and through its stages in every variant that it has.

    Args:
        read: the graph in a file, by its name.

    Raises:
        ValueError: something does not fit; the message names the file or the stage.
    """
    ends = program_ends(name, model)
    _compare(name, program.outputs, _segment(program.graph, program, _typed(ends, FLOAT), read, whole=True), ends)
    _check_views(program)
    segments = [stage for stage in program.stages if isinstance(stage, SegmentStage)]
    for variant in ("", *dict.fromkeys(key for stage in segments for key in stage.typed)):
        require(variant in VARIANTS, f"program {name} has segments in {variant!r}, which this engine does not know")
        lacking = [stage.graph for stage in segments if variant and variant not in stage.typed]
        require(not lacking, f"program {name} has no {variant} variant of {', '.join(lacking)}")
        known = {key: value for key, value in _typed(ends, VARIANTS[variant]).items() if key in program.inputs}
        for stage in program.stages:
            known.update(_run(stage, variant, known, read))
        _compare(name, program.outputs, known, _typed(ends, VARIANTS[variant]))


def _check_views(program: ProgramSpec) -> None:
    """Only kernels read the parts of a tensor where they lie: a runtime would take what lies between them, too."""
    views: set[str] = set()
    for stage in program.stages:
        if isinstance(stage, SplitStage):
            views.update(stage.outputs)
            continue
        parts = views & set(stage.inputs) if isinstance(stage, SegmentStage) else ()
        require(not parts, f"a segment reads {', '.join(parts)}, which are parts of another tensor")
        views.difference_update(stage.outputs)


def program_ends(name: str, model: ModelConfig) -> dict[str, Known]:
    """Inputs and outputs of a program in float32, of a picture of any size."""
    batch = Side("batch", 1, 0)

    def maps(channels: int, rows: str, columns: str, factor: int) -> Known:
        return Known(FLOAT, (batch, fixed(channels), Side(rows, factor, 0), Side(columns, factor, 0)))

    if name == "encoder":
        blocks = PADDING // FEATURE_STRIDE
        return {
            "image": maps(3, "h32", "w32", PADDING),
            "features": maps(model.features, "h32", "w32", blocks),
            "rate": maps(1, "h32", "w32", blocks),
            "signature": Known(FLOAT, (batch, fixed(model.signature))),
        }
    latent = maps(model.latent_channels, "h8", "w8", 1)
    return {"features": maps(model.features, "h8", "w8", 1), "x_t": latent, "t": Known(FLOAT, (batch,)), "x_0": latent}


def _typed(ends: Mapping[str, Known], reduced: int) -> dict[str, Known]:
    return {key: Known(FLOAT if key in _ALWAYS_FLOAT32 else reduced, known.sides) for key, known in ends.items()}


def _run(
    stage: SegmentStage | SplitStage | KernelStage,
    variant: str,
    known: Mapping[str, Known],
    read: Callable[[str], OnnxFile],
) -> dict[str, Known]:
    """What is known of the outputs of a stage."""
    if isinstance(stage, SegmentStage):
        file = stage.typed[variant] if variant else stage.graph
        made = _segment(file, stage, known, read, whole=False)
        for key, value in made.items():
            expected = FLOAT if key in _ALWAYS_FLOAT32 else VARIANTS[variant]
            require(value.type == expected, f"{file} makes {key!r} of type {value.type}, expected {expected}")
        return made
    given = [known[key] for key in stage.inputs]
    try:
        if isinstance(stage, KernelStage):
            outputs = attention(given, {})
        else:
            cuts = Known(INT64, sides(len(stage.sizes)), tuple(stage.sizes))
            outputs = split([*given, cuts], {"axis": len(given[0].sides) - 1})
    except ValueError as error:
        raise ValueError(f"the stage that makes {', '.join(stage.outputs)} is refused: {error}") from None
    return dict(zip(stage.outputs, outputs, strict=True))


def _segment(
    file: str,
    ends: SegmentStage | ProgramSpec,
    known: Mapping[str, Known],
    read: Callable[[str], OnnxFile],
    whole: bool,
) -> dict[str, Known]:
    try:
        return check_graph(read(file), {key: known[key] for key in ends.inputs}, ends.outputs, whole)
    except ValueError as error:
        raise ValueError(f"{file} is refused: {error}") from error


def _compare(name: str, outputs: tuple[str, ...], made: Mapping[str, Known], ends: Mapping[str, Known]) -> None:
    for key in outputs:
        # Constants have values, which do not matter here.
        same = (made[key].type, made[key].sides) == (ends[key].type, ends[key].sides)
        require(same, f"program {name} makes {key!r} of another type or shape than the model's settings say")
