"""What a program's stages give each other, looked at while it runs: the one check that every backend shares.

A bundle's graphs are checked when it is loaded. But a kernel of ours trusts the shapes that it is called with, and a
runtime says by itself what a graph made; so both are compared here, with what the other stages made and with what the
program must give. All of one count costs less than a tenth of a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

from engine.bundle.stages import KernelStage, SegmentStage, SplitStage
from engine.config import COMPONENTS, FEATURE_STRIDE
from engine.errors import BundleError

# Bits of bfloat16 are uint16 in NumPy.
_TYPES = frozenset({"float32", "float16", "bfloat16", "uint16", "torch.float32", "torch.float16", "torch.bfloat16"})
_FLOAT32 = frozenset({"float32", "torch.float32"})
_MOST_AXES = 4


class Array(Protocol):
    """What is looked at of an array, of whatever library."""

    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def dtype(self) -> Any: ...


def check_axes(place: str, name: str, shape: Sequence[int]) -> None:
    """Refuse an array that no memory should be reserved for: one to four axes, each of a length above 0.

    Args:
        place: the stage or file that makes the array, for the message.

    Raises:
        BundleError: it has others.
    """
    if not 0 < len(shape) <= _MOST_AXES or min(shape) < 1:
        raise _refused(place, f"it makes {name} of shape {list(shape)}, expected 1 to {_MOST_AXES} axes above 0")


def check_segment(stage: SegmentStage, arrays: Sequence[Array]) -> None:
    """Refuse what a segment made, if it could not be an input of any other stage.

    Raises:
        BundleError: its axes are none, or its type is no type of a map.
    """
    if len(arrays) != len(stage.outputs):
        raise _refused(stage.graph, f"it makes {len(arrays)} arrays, expected {len(stage.outputs)}")
    for name, array in zip(stage.outputs, arrays, strict=True):
        check_axes(stage.graph, name, array.shape)
        if _kind(array.dtype) not in _TYPES:
            raise _refused(stage.graph, f"it makes {name} of type {array.dtype}, expected a type of maps")


def check_split(stage: SplitStage, array: Array) -> None:
    """Refuse an array whose last axis is not as long as its parts together.

    Raises:
        BundleError: it is longer or shorter.
    """
    if not array.shape or array.shape[-1] != sum(stage.sizes):
        made = f"{stage.input} of shape {list(array.shape)}"
        raise _refused(" and ".join(stage.outputs), f"it cuts {made} into {list(stage.sizes)}, expected all of an axis")


def check_attention(stage: KernelStage, arrays: Sequence[Array]) -> None:
    """Refuse q, k and v that do not belong together: q and k [B, H, W, D] and v [B, H, W, C], all of one type.

    Raises:
        BundleError: they are others.
    """
    q, k, v = arrays
    sizes = tuple(q.shape), tuple(k.shape), tuple(v.shape)
    for name, size in zip(stage.inputs, sizes, strict=True):
        check_axes(stage.kernel, name, size)
    if len(sizes[0]) != 4 or len(sizes[2]) != 4 or sizes[0] != sizes[1] or sizes[0][:3] != sizes[2][:3]:
        raise _refused(stage.kernel, f"it gets q, k, v of shapes {sizes}, expected 4 axes and the same first three")
    if not q.dtype == k.dtype == v.dtype or _kind(q.dtype) not in _TYPES:
        raise _refused(stage.kernel, f"it gets q, k, v of types {q.dtype}, {k.dtype}, {v.dtype}, expected one of maps")


def check_ends(inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Refuse what a program made, unless it has exactly the shape that follows from what went in.

    Args:
        inputs: of the encoder, image; of the decoder, features and x_t, and what follows them.
        outputs: of the encoder, features, rate and signature; of the decoder, x_0.

    Raises:
        BundleError: rate, signature or x_0 has another shape, or is not float32; or features has another size.
    """
    if len(outputs) == 1:
        (x_0,), x_t = outputs, inputs[1]
        _check_end("decoder", "x_0", x_0, tuple(x_t.shape))
        return
    features, rate, signature = outputs
    batch, _, height, width = inputs[0].shape
    rows, columns = height // FEATURE_STRIDE, width // FEATURE_STRIDE
    _check_end("encoder", "rate", rate, (batch, 1, rows, columns))
    # As many domains as the graph has, which was compared with the model's settings when it was loaded.
    _check_end("encoder", "signature", signature, (batch, max(signature.shape[-1] // COMPONENTS, 1) * COMPONENTS))
    # Some backends keep their channels last.
    size = tuple(features.shape)
    if len(size) != 4 or (rows, columns) not in (size[2:], size[1:3]) or size[0] != batch:
        raise _refused("encoder", f"it makes features of shape {list(size)} of a picture of {height} x {width}")


@lru_cache
def _kind(dtype: Any) -> str:
    # Kept, as NumPy takes longer for a type's name than all else here takes.
    return str(dtype)


def _check_end(program: str, name: str, array: Array, expected: tuple[int, ...]) -> None:
    if tuple(array.shape) != expected or _kind(array.dtype) not in _FLOAT32:
        made = f"{array.dtype} {list(array.shape)}"
        raise _refused(program, f"it makes {name} as {made}, expected float32 {list(expected)}")


def _refused(place: str, problem: str) -> BundleError:
    return BundleError(f"{place} is refused while it runs: {problem}; export the bundle again")
