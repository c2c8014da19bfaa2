"""Shapes and types between the stages of a program, on a stand-in that makes what a hostile graph or runtime could."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from reliability.small_bundle import programs

from engine.bundle.program import Program
from engine.bundle.stages import SegmentStage
from engine.config import COMPONENTS
from engine.errors import BundleError


@dataclass(frozen=True)
class Said:
    """An array of which a runtime says what it is: nothing is reserved, however large it claims to be."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __getitem__(self, place: tuple[Any, slice]) -> Said:
        return Said((*self.shape[:-1], place[1].stop - place[1].start), self.dtype)


SOUND: dict[str, Said] = {
    "features": Said((1, 2, 8, 12)), "rate": Said((1, 1, 8, 12)), "signature": Said((1, COMPONENTS)),
    "packed": Said((1, 8, 12, 32)), "x": Said((1, 1, 8, 12)), "x_0": Said((1, 1, 8, 12)),
}  # fmt: skip
INPUTS = {
    "encoder": [Said((1, 3, 64, 96))],
    "decoder": [Said((1, 2, 8, 12)), Said((1, 1, 8, 12)), Said((1,))],
}


def _run(name: str, made: Mapping[str, Said], inputs: Sequence[Any] | None = None) -> tuple[Any, ...]:
    def compile_segment(stage: SegmentStage) -> Any:
        return lambda arrays: [made[output] for output in stage.outputs]

    kernels = {"criss_cross_attention": lambda arrays: [arrays[2]]}
    return Program(programs()[name], compile_segment, kernels)(*(inputs or INPUTS[name]))


def test_what_fits_goes_through() -> None:
    assert _run("encoder", SOUND) == (SOUND["features"], SOUND["rate"], SOUND["signature"])
    # As a backend that keeps its channels last.
    assert _run("encoder", SOUND | {"features": Said((1, 8, 12, 2), "uint16")})[0].dtype == "uint16"
    assert _run("decoder", SOUND) == (SOUND["x_0"],)


# By what is made: the place that the refusal names.
HOSTILE: list[tuple[str, Said, str]] = [
    ("packed", Said((1, 8, 12, 31)), "q and k and v"),
    ("packed", Said((1, 8, 12, 33)), "q and k and v"),
    ("packed", Said((1, 8, 12, 1 << 40)), "q and k and v"),
    ("packed", Said((1, 8, 12, -1)), "first.onnx"),
    ("packed", Said((-1, 8, 12, 32)), "first.onnx"),
    ("packed", Said((1, 0, 12, 32)), "first.onnx"),
    ("packed", Said(()), "first.onnx"),
    ("packed", Said((1, 1, 8, 12, 32)), "first.onnx"),
    ("packed", Said((1, 8, 12, 32), "int64"), "first.onnx"),
    ("packed", Said((96, 32)), "criss_cross_attention"),
    ("packed", Said((8, 12, 32)), "criss_cross_attention"),
    ("x", Said((1, -1, 8, 12)), "first.onnx"),
    ("x", Said((1, 1, 8, 12), "string"), "first.onnx"),
    ("x_0", Said((1, 1, 8, 11)), "decoder"),
    ("x_0", Said((1, 1, 1, 1)), "decoder"),
    ("x_0", Said((1, 16, 8, 12)), "decoder"),
    ("x_0", Said((2, 1, 8, 12)), "decoder"),
    ("x_0", Said((1, 1, 8, 12), "float16"), "decoder"),
    ("x_0", Said((1, 1, 8, 12), "uint16"), "decoder"),
    ("x_0", Said((1, 1, -1, -1)), "second.onnx"),
    ("rate", Said((1, 1, 8, 13)), "encoder"),
    ("rate", Said((1, 1, 12, 8)), "encoder"),
    ("rate", Said((1, 2, 8, 12)), "encoder"),
    ("rate", Said((1, 8, 12, 1)), "encoder"),
    ("rate", Said((1,)), "encoder"),
    ("rate", Said((1, 1, 8, 12), "float16"), "encoder"),
    ("signature", Said((1, COMPONENTS + 1)), "encoder"),
    ("signature", Said((2, COMPONENTS)), "encoder"),
    ("signature", Said((COMPONENTS,)), "encoder"),
    ("signature", Said((1, COMPONENTS, 1, 1)), "encoder"),
    ("signature", Said((1, COMPONENTS), "float16"), "encoder"),
    ("features", Said((1, 2, 7, 12)), "encoder"),
    ("features", Said((1, 2, 12)), "encoder"),
    ("features", Said((2, 2, 8, 12)), "encoder"),
    ("features", Said((8, 12, 1, 2)), "encoder"),
    ("features", Said((1, 2, 8, 12), "int8"), "encoder.onnx"),
]


@pytest.mark.parametrize(("name", "array", "place"), HOSTILE, ids=str)
def test_what_does_not_fit_is_refused(name: str, array: Said, place: str) -> None:
    program = "encoder" if name in ("features", "rate", "signature") else "decoder"
    with pytest.raises(BundleError, match=f"^{place} is refused while it runs"):
        _run(program, SOUND | {name: array})


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        # As from a manifest that gives the kernel other tensors: the grid would come from q, the buffers from v.
        (Said((1, 96, 96, 32)), Said((1, 4, 4, 32)), Said((1, 4, 4, 64))),
        (Said((1, 4, 4, 32)), Said((1, 4, 4, 32)), Said((1, 96, 96, 64))),
        (Said((1, 4, 4, 32)), Said((1, 4, 4, 16)), Said((1, 4, 4, 64))),
        (Said((2, 4, 4, 32)), Said((2, 4, 4, 32)), Said((1, 4, 4, 64))),
        (Said((1, 4, 4, 32), "float16"), Said((1, 4, 4, 32)), Said((1, 4, 4, 64))),
        (Said((1, 4, 4, 32)), Said((1, 4, 4, 32)), Said((1, 4, 4, 64), "uint16")),
        (Said((1, 4, 4, 32), "int8"), Said((1, 4, 4, 32), "int8"), Said((1, 4, 4, 64), "int8")),
        (Said((1, 4, 4, 0)), Said((1, 4, 4, 0)), Said((1, 4, 4, 64))),
        (Said((4, 4, 32)), Said((4, 4, 32)), Said((4, 4, 64))),
    ],
)
def test_q_k_and_v_that_do_not_belong_together(q: Said, k: Said, v: Said) -> None:
    from engine.bundle.array_check import check_attention

    stage = programs()["decoder"].stages[2]
    with pytest.raises(BundleError, match=r"^criss_cross_attention is refused"):
        check_attention(stage, [q, k, v])


def test_a_segment_that_makes_too_few() -> None:
    from engine.bundle.array_check import check_segment

    with pytest.raises(BundleError, match=r"^first\.onnx .* it makes 1 arrays, expected 2"):
        check_segment(programs()["decoder"].stages[0], [np.zeros((1, 8, 12, 32), np.float32)])
