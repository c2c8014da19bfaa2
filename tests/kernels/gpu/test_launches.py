"""What the wrappers launch is what export compiles: types, constants, alignment, grid and options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from triton.runtime.jit import KernelInterface

from engine.backends.cuda.launcher import evaluate
from engine.bundle.bundle import KernelStage, ProgramSpec, SplitStage
from engine.config import ModelConfig
from engine.export.gpu_kernels import KernelBuild, kernel_builds
from engine.kernels.criss_cross_attention import criss_cross_attention
from engine.kernels.ddim_update import ddim_update
from engine.kernels.find_peaks import find_peaks
from engine.kernels.head_maps import head_maps
from engine.kernels.preprocess import preprocess

BATCH, HEIGHT, WIDTH = 2, 5, 70
TYPES = {
    torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int32: "*i32", torch.uint8: "*u8",
    int: "i32", float: "fp32",
}  # fmt: skip


def _bundle(depth: int, channels: int) -> Any:
    split = SplitStage("packed", (depth, depth, channels), ("q", "k", "v"))
    # Cut in three, but not for an attention.
    other = SplitStage("else", (1, 2, 3), ("a", "b", "c"))
    program = ProgramSpec("x.onnx", (), (), (split, other, KernelStage("criss_cross_attention", ("q", "k", "v"), ())))
    return SimpleNamespace(model=ModelConfig(), programs={"encoder": program, "decoder": program}, path=Path())


def _attention(half: torch.dtype, depth: int, channels: int) -> None:
    packed = torch.zeros((BATCH, HEIGHT, WIDTH, 2 * depth + channels), dtype=half)
    criss_cross_attention(*packed.split([depth, depth, channels], dim=-1))


def _ddim(half: torch.dtype) -> None:
    x_t = torch.zeros(3000, dtype=half)
    # The second step's coefficients, which lie 24 bytes behind the first's.
    ddim_update(x_t, x_t.float(), x_t.float(), x_t.float(), torch.zeros((3, 6))[1])


def _heads() -> None:
    latents = torch.zeros((3, 16, 2, 100))
    head_maps(latents, latents, 2.0, (1, 3, HEIGHT, 377))


Launch = tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]


@pytest.mark.parametrize(
    ("kernels", "variant", "call"),
    [
        (("criss_cross_attention.rows", "criss_cross_attention.columns"), {"dtype": half, "D": depth, "C": channels},
         lambda half=half, depth=depth, channels=channels: _attention(_dtype(half), depth, channels))
        for half in ("fp16", "bf16") for depth, channels in ((32, 64), (16, 48), (32, 192))
    ]
    + [(("ddim_update",), {"dtype": half}, lambda half=half: _ddim(_dtype(half))) for half in ("fp16", "bf16")]
    + [
        (("preprocess",), {"dtype": half},
         lambda half=half: preprocess(torch.zeros((41, 300, 3), dtype=torch.uint8), 0.45, 0.27, _dtype(half)))
        for half in ("fp16", "bf16")
    ]
    + [
        (("head_maps",), {"factor": 4}, _heads),
        (("find_peaks.count", "find_peaks.write"), {}, lambda: find_peaks(torch.zeros((41, 55)), torch.zeros(1), 9)),
    ],
)  # fmt: skip
def test_wrappers_launch_what_is_compiled(
    kernels: tuple[str, ...], variant: dict[str, Any], call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    launches: list[Launch] = []

    def record(kernel: Any, grid: tuple[int, ...]) -> Any:
        return lambda *values, **named: launches.append((kernel.__name__, grid, values, named))

    monkeypatch.setattr(KernelInterface, "__getitem__", record)
    call()
    sizes = (variant.get("D", 32), variant.get("C", 64))
    builds = [x for x in kernel_builds(_bundle(*sizes)) if x.kernel in kernels and x.variant == variant]
    assert tuple(x.kernel for x in builds) == kernels
    for build, launch in zip(builds, launches, strict=True):
        _assert_compiled(build, launch)


def _dtype(half: str) -> torch.dtype:
    return {"fp16": torch.float16, "bf16": torch.bfloat16}[half]


def _assert_compiled(build: KernelBuild, launch: Launch) -> None:
    name, grid, values, named = launch
    assert build.function.__name__ == name
    arguments = dict(zip(build.types, values, strict=True))
    kinds = {
        x: TYPES[value.dtype if isinstance(value, torch.Tensor) else type(value)] for x, value in arguments.items()
    }
    assert kinds == build.types
    assert named == {**build.constants, **build.options}
    for x in build.aligned:
        value = arguments[x]
        assert (value.data_ptr() if isinstance(value, torch.Tensor) else value) % 16 == 0, x
    numbers = {"batch": BATCH, "height": HEIGHT} | {k: v for k, v in arguments.items() if isinstance(v, int)}
    assert tuple(evaluate(rule, numbers) for rule in build.grid) == grid
