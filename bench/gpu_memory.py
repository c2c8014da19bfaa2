"""Device memory of one recorded count by picture size, without a GPU: ``python bench/gpu_memory.py``.

It adds up what the engine allocates for backend "tensorrt": inputs and outputs of all segments, scratch memory of the
attentions, latents, maps and both upload buffers. Weights, the scratch memory of TensorRT's contexts (which all
segments share) and CUDA's own context come on top, and are known on a GPU alone.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx

from engine.bundle.bundle import Bundle, load_bundle
from engine.bundle.stages import KernelStage, SegmentStage, SplitStage
from engine.config import FEATURE_STRIDE, PADDING

SIZES = ((384, 512), (768, 1024), (1080, 1920), (2048, 2048))
_BYTES = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.BFLOAT16: 2}
_TERM = re.compile(r"(?:(\d+)\*)?([hw])(\d+)")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a bundle")
    parser.add_argument("--samples", type=int, default=1, help="of the noise")
    options = parser.parse_args()
    bundle = load_bundle(options.model)
    print("| picture | memory |\n|---|---|")
    for height, width in SIZES:
        used = device_bytes(bundle, height, width, options.samples)
        print(f"| {width}x{height} | {used / 2**20:.0f} MiB |")


def device_bytes(bundle: Bundle, height: int, width: int, samples: int = 1) -> int:
    """Bytes on the device for pictures of a size, recorded for one number of samples."""
    rows, columns = (side + -side % PADDING for side in (height, width))
    pixels = 2 * 3 * height * width
    latent = bundle.model.latent_channels * rows * columns // FEATURE_STRIDE**2
    cells = -(-height // bundle.model.map_stride) * -(-width // bundle.model.map_stride)
    # Noise, the noisy latent, estimates and changes; both maps, and points and scores of every fourth cell.
    maps = latent * (2 * samples + 2 + 8 * samples) + cells * (8 + 3)
    return pixels + 2 * 3 * rows * columns + maps + sum(_stages(bundle, rows, columns))


def _stages(bundle: Bundle, rows: int, columns: int) -> Iterator[int]:
    for program in bundle.programs.values():
        shapes: dict[str, tuple[int, ...]] = {}
        scratch: set[tuple[int, ...]] = set()
        for stage in program.stages:
            if isinstance(stage, SegmentStage):
                made = _outputs(bundle.path / stage.typed["float16"], rows, columns)
                for name in stage.outputs:
                    shapes[name], size = made[name]
                    yield math.prod(shapes[name]) * size
            elif isinstance(stage, SplitStage):
                for name, channels in zip(stage.outputs, stage.sizes, strict=True):
                    shapes[name] = (*shapes[stage.input][:-1], channels)
            elif isinstance(stage, KernelStage):
                shapes[stage.outputs[0]] = value = shapes[stage.inputs[2]]
                yield 2 * math.prod(value)
                if value not in scratch:
                    scratch.add(value)
                    yield 4 * math.prod(value) + 4 * math.prod(value[:3])


def _outputs(graph: Path, rows: int, columns: int) -> Mapping[str, tuple[tuple[int, ...], int]]:
    """Shape and bytes of an element of each output of a segment, whose axes have names such as 2*h32."""
    outputs = onnx.load(graph, load_external_data=False).graph.output
    return {
        x.name: (
            tuple(_length(axis, rows, columns) for axis in x.type.tensor_type.shape.dim),
            _BYTES[x.type.tensor_type.elem_type],
        )
        for x in outputs
    }


def _length(axis: onnx.TensorShapeProto.Dimension, rows: int, columns: int) -> int:
    if axis.HasField("dim_value"):
        return int(axis.dim_value)
    if axis.dim_param == "batch":
        return 1
    match = _TERM.fullmatch(axis.dim_param)
    assert match is not None, axis.dim_param
    return int(match[1] or 1) * {"h": rows, "w": columns}[match[2]] // int(match[3])


if __name__ == "__main__":
    main()
