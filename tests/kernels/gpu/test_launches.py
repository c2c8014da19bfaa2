"""What the wrappers launch is what export compiles and the engine launches: types, constants, alignment, grids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from triton.runtime.jit import KernelInterface

from engine.backends.cuda.arrays import DeviceArray, DeviceMemory
from engine.backends.cuda.kernels import Kernels
from engine.backends.cuda.launcher import Launcher
from engine.backends.cuda.streams import Stream
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


def _array(*shape: int, dtype: str = "float32") -> DeviceArray:
    return DeviceArray(0, shape, dtype, shape[-1], None)  # type: ignore[arg-type]


def _our_attention(kernels: Kernels, half: str, depth: int, channels: int) -> None:
    pixels = BATCH, HEIGHT, WIDTH
    q, v = _array(*pixels, depth, dtype=half), _array(*pixels, channels, dtype=half)
    kernels.criss_cross_attention(q, q, v, _array(*pixels, channels), _array(*pixels), v)


def _our_ddim(kernels: Kernels, half: str) -> None:
    kernels.ddim_update(_array(3000, dtype=half), *[_array(3000)] * 3, _array(6))


def _our_pixels(kernels: Kernels, half: str) -> None:
    image = SimpleNamespace(pointer=0, height=41, width=300, strides=(900, 3, 1))
    kernels.preprocess(image, _array(1, 3, 64, 320, dtype=half))


def _our_heads(kernels: Kernels, half: str) -> None:
    latents, cells = _array(3, 16, 2, 100), _array(HEIGHT, 377)
    kernels.head_maps(latents, latents, cells, cells)


def _our_peaks(kernels: Kernels, half: str) -> None:
    memory = SimpleNamespace(new=lambda shape, dtype: _array(*shape, dtype=dtype))
    peaks = kernels.new_peaks(cast(DeviceMemory, memory), 41, 55)
    kernels.find_peaks(_array(41, 55), _array(1), peaks)


Launch = tuple[str, tuple[int, ...], tuple[Any, ...], dict[str, Any]]
OURS: dict[str, Callable[..., None]] = {
    "criss_cross_attention.rows": _our_attention, "ddim_update": _our_ddim, "preprocess": _our_pixels,
    "head_maps": _our_heads, "find_peaks.count": _our_peaks,
}  # fmt: skip


class _Launcher:
    """Has what export would compile, and notes the grids that the engine launches it with."""

    def __init__(self, builds: list[KernelBuild]):
        self._builds = {(x.kernel, *sorted(x.variant.items())): x for x in builds}
        self.grids: list[tuple[int, int, int]] = []

    def find(self, name: str, variant: dict[str, Any]) -> KernelBuild:
        return self._builds[name, *sorted(variant.items())]

    def launch(self, kernel: KernelBuild, grid: tuple[int, int, int], arguments: dict[str, Any], stream: None) -> None:
        assert set(arguments) == set(kernel.types)
        self.grids.append(grid)


@pytest.mark.parametrize(
    ("kernels", "variant", "call"),
    [
        (("criss_cross_attention.rows", "criss_cross_attention.columns"), {"dtype": half, "D": depth, "C": channels},
         lambda half=half, depth=depth, channels=channels: _attention(_dtype(half), depth, channels))
        for half in ("fp16", "bf16") for depth, channels in ((32, 64), (16, 48), (32, 128), (32, 192))
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
    half = {"fp16": "float16", "bf16": "bfloat16"}[variant.get("dtype", "fp16")]
    launcher = _Launcher(builds)
    ours = Kernels(cast(Launcher, launcher), cast(Stream, None), ModelConfig(), half)
    OURS[kernels[0]](ours, half, *(variant[x] for x in ("D", "C") if x in variant))
    for build, launch, grid in zip(builds, launches, launcher.grids, strict=True):
        _assert_compiled(build, launch, grid)


def _dtype(half: str) -> torch.dtype:
    return {"fp16": torch.float16, "bf16": torch.bfloat16}[half]


def _assert_compiled(build: KernelBuild, launch: Launch, ours: tuple[int, int, int]) -> None:
    name, grid, values, named = launch
    assert ours == (*grid, 1, 1)[:3]
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
