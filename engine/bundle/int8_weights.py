"""Whether the int8 weights of a bundle suit a processor without VNNI.

Such an x86 processor multiplies uint8 by int8 and adds the products of channels 0 and 1, 2 and 3, and so on, in 16
bits. These hold no more than 32,767, and stop there without a word: 255 * 128 is 32,640. Convolutions of each channel
alone (depthwise ones) add nothing in 16 bits.
"""

from __future__ import annotations

import math

import numpy as np

from engine.bundle.bundle import Bundle
from engine.bundle.onnx_file import read_onnx
from engine.bundle.onnx_parts import INT8, Tensor
from engine.bundle.stages import SegmentStage

# The most that two neighbouring int8 weights may sum to.
MOST_PAIR = 128


def largest_pairs(weight: np.ndarray) -> np.ndarray:
    """Largest magnitude [O] of a sum of two neighbouring input channels' weights, of [O, I, h, w] in any type."""
    outputs, inputs = weight.shape[:2]
    if inputs == 1:
        return np.zeros(outputs, np.float32)
    even, odd = (weight[:, first::2].astype(np.float32) for first in (0, 1))
    even[:, : odd.shape[1]] += odd
    return np.abs(even).reshape(outputs, -1).max(axis=1)


def fits_16_bits(bundle: Bundle) -> bool:
    """Whether the convolutions of the int8 graphs compute what they should without VNNI, too."""
    stages = (stage for program in bundle.programs.values() for stage in program.stages)
    graphs = [x.typed["int8"] for x in stages if isinstance(x, SegmentStage) and "int8" in x.typed]
    sizes = {file.name: file.stat().st_size for file in bundle.path.glob("*.safetensors")}
    files = (read_onnx((bundle.path / graph).read_bytes(), sizes) for graph in graphs)
    return all(_fits(bundle, x) for file in files for x in file.tensors if x.type == INT8 and len(x.sides) == 4)


def _fits(bundle: Bundle, tensor: Tensor) -> bool:
    # The exporter writes none into the graph itself; such weights are taken for unfit.
    if not tensor.file:
        return False
    values = np.fromfile(bundle.path / tensor.file, np.int8, math.prod(tensor.sides), offset=tensor.offset)
    return bool(largest_pairs(values.reshape(tensor.sides)).max() <= MOST_PAIR)
