"""What is compiled ahead of time for a model: each Triton kernel with its types, constants and block sizes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.bundle.bundle import Bundle, KernelStage, SplitStage
from engine.config import FEATURE_STRIDE
from engine.errors import ConfigError

HALVES = ("fp16", "bf16")


@dataclass(frozen=True)
class KernelBuild:
    """One variant of a kernel.

    Attributes:
        kernel: its name, and that of a launch of it where there are several: ``"find_peaks.count"``.
        variant: what tells it from the kernel's other variants.
        function: with ``@triton.jit``.
        types: of the arguments of a launch, by name.
        constants: the other arguments, fixed when compiling.
        aligned: arguments that are multiples of 16 (addresses in bytes), as wide loads and stores need.
        options: warps, stages and fused multiply-add, as for the launch with Triton itself.
    """

    kernel: str
    variant: dict[str, int | str]
    function: Any
    types: dict[str, str]
    constants: dict[str, int]
    aligned: tuple[str, ...]
    options: dict[str, Any]

    @property
    def blocks(self) -> dict[str, int]:
        """Those of the constants that a launch computes its grid and its buffers from."""
        return {name: size for name, size in self.constants.items() if name.startswith("BLOCK")}


def kernel_builds(bundle: Bundle) -> list[KernelBuild]:
    """All variants that a bundle needs, in both half types.

    Raises:
        ConfigError: its attention has a shape that the kernels do not take.
    """
    builds = [build for half in HALVES for sizes in _attention_sizes(bundle) for build in _attention(half, *sizes)]
    builds += [build(half) for build in (_ddim_update, _preprocess) for half in HALVES]
    return [*builds, _head_maps(FEATURE_STRIDE // bundle.model.map_stride), *_find_peaks()]


def _attention_sizes(bundle: Bundle) -> list[tuple[int, int]]:
    """(D, C) of every attention of the programs."""
    sizes = set()
    for program in bundle.programs.values():
        attentions = {stage.inputs for stage in program.stages if isinstance(stage, KernelStage)}
        splits = [stage for stage in program.stages if isinstance(stage, SplitStage)]
        sizes |= {(split.sizes[0], split.sizes[2]) for split in splits if split.outputs in attentions}
    return sorted(sizes)


def _types(**names: str) -> dict[str, str]:
    """``_types(i32="height width")`` is ``{"height": "i32", "width": "i32"}``; ``p_`` before a type is a pointer."""
    return {name: kind.replace("p_", "*") for kind, together in names.items() for name in together.split()}


def _in_order(function: Any, types: dict[str, str]) -> dict[str, str]:
    return {name: types[name] for name in function.arg_names if name in types}


def _attention(half: str, depth: int, channels: int) -> Iterable[KernelBuild]:
    from engine.kernels import criss_cross_attention as source

    if depth not in source.DEPTHS or channels % 16:
        raise ConfigError(
            f"this model's attention has {depth} channels of queries and {channels} of values; GPU kernels take "
            f"{', '.join(map(str, source.DEPTHS))} and multiples of 16: train one of such a shape"
        )
    block = source.channel_block(channels)
    constants = {"D": depth, "C": channels, "BLOCK_C": block, **source.BLOCKS}
    pointers = {**dict.fromkeys(("q", "k", "v"), f"*{half}"), **_types(p_fp32="row_acc row_lse")}
    steps = _types(i32="q_step k_step v_step")
    for name, function, types in (
        ("rows", source.criss_cross_rows, _types(i32="width")),
        ("columns", source.criss_cross_columns, {"out": f"*{half}", **_types(i32="height width")}),
    ):
        types = _in_order(function, {**pointers, **types, **steps})
        yield KernelBuild(
            kernel=f"criss_cross_attention.{name}",
            variant={"dtype": half, "D": depth, "C": channels},
            function=function,
            types=types,
            constants=constants,
            aligned=tuple(x for x, kind in types.items() if kind.startswith("*") or x in steps),
            options=source.OPTIONS,
        )


def _ddim_update(half: str) -> KernelBuild:
    from engine.kernels import ddim_update as source

    maps = {"x_t": f"*{half}", **_types(p_fp32="x_0 estimate change")}
    return KernelBuild(
        kernel="ddim_update",
        variant={"dtype": half},
        function=source.ddim_step,
        types={**maps, **_types(p_fp32="coefficients", i32="size")},
        constants=source.BLOCKS,
        # Not the coefficients: those of each step follow those of the step before, 24 bytes on.
        aligned=tuple(maps),
        options=source.OPTIONS,
    )


def _preprocess(half: str) -> KernelBuild:
    from engine.kernels import preprocess as source

    sizes = "height width row_stride column_stride channel_stride padded_height padded_width"
    return KernelBuild(
        kernel="preprocess",
        variant={"dtype": half},
        function=source.normalise_pixels,
        types={"image": "*u8", "out": f"*{half}", **_types(i32=sizes, fp32="scale shift")},
        constants=source.BLOCKS,
        aligned=("out", "padded_width"),
        options=source.OPTIONS,
    )


def _head_maps(factor: int) -> KernelBuild:
    from engine.kernels import head_maps as source

    sizes = "samples latent_height latent_width top left width out_step"
    return KernelBuild(
        kernel="head_maps",
        variant={"factor": factor},
        function=source.unfold_heads,
        types=_types(p_fp32="estimates changes heatmap spread", i32=sizes, fp32="scale"),
        constants={"FACTOR": factor, **source.BLOCKS},
        # Not the maps: a tile's corner may lie anywhere in them.
        aligned=("estimates", "changes"),
        options=source.OPTIONS,
    )


def _find_peaks() -> Iterable[KernelBuild]:
    from engine.kernels import find_peaks as source

    inputs = {**_types(p_fp32="heatmap threshold", p_i32="counts", i32="height width")}
    outputs = _types(p_fp32="points scores", p_i32="total", i32="capacity")
    for name, function, types, constants in (
        ("count", source.count_peaks, inputs, source.BLOCKS),
        ("write", source.write_peaks, {**inputs, **outputs}, {**source.BLOCKS, **source.SUMMED}),
    ):
        yield KernelBuild(
            kernel=f"find_peaks.{name}",
            variant={},
            function=function,
            types=_in_order(function, types),
            constants=constants,
            aligned=("heatmap", "counts"),
            options=source.OPTIONS,
        )
