"""``python -m engine.export``: write a bundle from a checkpoint, verify one, or add int8 graphs or GPU kernels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.bundle.bundle import load_bundle
from engine.bundle.cubins import load_cubins
from engine.config import CountingRule
from engine.errors import EngineError
from engine.export.bundle_writer import export_bundle
from engine.export.typed_onnx import REDUCED_TYPES


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the export itself."""
    parser = argparse.ArgumentParser(
        prog="crowd export",
        description="Turn a checkpoint into a bundle that the engine loads.",
        epilog="example:\n  crowd export runs/mine/model.pt my-bundle && crowd count --model my-bundle photo.jpg\n\n"
        "other commands, each with its own --help:\n"
        "  crowd export verify BUNDLE         compare it with PyTorch\n"
        "  crowd export quantize BUNDLE DATA  add int8 convolutions\n"
        "  crowd export cubins BUNDLE         add GPU kernels\n"
        "  crowd export tensorrt BUNDLE       build its TensorRT engines, as a check",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="file written by training, such as runs/default/model.pt")
    parser.add_argument("out", type=Path, help="folder of the bundle; must not exist")
    parser.add_argument("--name", help="of the model (default: the folder's)")
    parser.add_argument("--steps", type=int, default=2, help="when a caller names none (default: %(default)s)")
    parser.add_argument(
        "--threshold", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the peak threshold (default: the calibrated one in the checkpoint)",
    )  # fmt: skip
    return parser


def build_verify_parser() -> argparse.ArgumentParser:
    """Arguments of ``verify``."""
    parser = argparse.ArgumentParser(
        prog="crowd export verify", description="Compare what a bundle computes with PyTorch, step by step."
    )
    parser.add_argument("bundle", help="folder of the bundle, or 'default'")
    parser.add_argument("--steps", type=int, help="denoising steps; the bundle's default if not given")
    parser.add_argument("--picture", type=Path, help="picture to compare on; a synthetic one if not given")
    parser.add_argument(
        "--backend",
        action="append",
        metavar="NAME:TYPE",
        help="backend to compare, such as openvino:bfloat16; repeatable",
    )
    return parser


def build_tensorrt_parser() -> argparse.ArgumentParser:
    """Arguments of ``tensorrt``."""
    parser = argparse.ArgumentParser(
        prog="crowd export tensorrt",
        description="Build every segment of a bundle with the installed TensorRT, as a check; nothing is kept.",
    )
    parser.add_argument("bundle", help="folder of the bundle, or 'default'")
    parser.add_argument(
        "--type", action="append", choices=tuple(REDUCED_TYPES),
        help="float16 and bfloat16 if not given; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--capability",
        action="append",
        metavar="X.Y",
        help="GPUs to build for, with TensorRT-RTX; its default if not given; repeatable",
    )
    return parser


def build_cubins_parser() -> argparse.ArgumentParser:
    """Arguments of ``cubins``."""
    parser = argparse.ArgumentParser(
        prog="crowd export cubins",
        description="Compile the GPU kernels that a bundle needs and put them into it; no GPU is needed.",
    )
    parser.add_argument("bundle", help="folder of the bundle, or 'default'")
    parser.add_argument(
        "--arch", type=int, nargs="+", metavar="N",
        help="compute capabilities times 10, such as 90 for an H100; 80 86 89 90 120 by default",
    )  # fmt: skip
    return parser


def build_quantize_parser() -> argparse.ArgumentParser:
    """Arguments of ``quantize``."""
    parser = argparse.ArgumentParser(
        prog="crowd export quantize",
        description="Put int8 convolutions into a bundle, calibrated on training pictures, for compute_type='int8'. "
        "Convolutions that lose too much by it stay float.",
    )
    parser.add_argument("bundle", help="folder of the bundle, or 'default'")
    parser.add_argument("data", type=Path, help="training pictures, in a layout that training takes")
    parser.add_argument(
        "--pictures", type=int, default=48, help="to calibrate on, spread over the data (default: %(default)s)"
    )
    parser.add_argument(
        "--exclude", type=int, nargs="*", default=[0, 5], metavar="DIGIT",
        help="last digits of picture numbers never looked at (default: 0 5)",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=float, default=0.01,
        help="share by which counts may differ from float32, and maps by five times it (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--float", action="append", default=[], metavar="PATTERN",
        help="convolutions that stay float in any case, such as 'rate*'; repeatable",
    )  # fmt: skip
    return parser


def run(words: list[str]) -> int:
    """``crowd export`` with these words: 0, or 1 if a bundle does not agree with PyTorch.

    Raises:
        EngineError: it cannot be done.
    """
    commands = {"verify": _verify, "quantize": _quantize, "tensorrt": _build_tensorrt, "cubins": _cubins}
    command = commands.get(words[0]) if words else None
    return command(words[1:]) if command else _export(words)


def main(arguments: list[str] | None = None) -> int:
    """``python -m engine.export``, which knows no more of an error than that there is one: :func:`run`, or 2."""
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _export(words: list[str]) -> int:
    options = build_parser().parse_args(words)
    counting = {options.steps: CountingRule(*options.threshold)} if options.threshold else None
    name = options.name or options.out.name
    folder = export_bundle(options.checkpoint, options.out, name, counting=counting, default_steps=options.steps)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 2**20:.1f} MiB, digest {load_bundle(folder).digest[:12]}")
    return 0


def _verify(words: list[str]) -> int:
    # Verifying needs the runtimes as well; exporting does not.
    from engine.export.verify import verify_bundle
    from engine.image.load import load_image

    options = build_verify_parser().parse_args(words)
    named = [tuple(x.split(":", 1)) if ":" in x else (x, "float32") for x in options.backend or ["openvino"]]
    picture = load_image(options.picture) if options.picture else None
    report = verify_bundle(options.bundle, backends=tuple(named), picture=picture, steps=options.steps)
    print(report)
    return 0 if report.passed else 1


def _quantize(words: list[str]) -> int:
    from engine.dataset.samples import find_samples
    from engine.export.quantize import choose_pictures, quantize_bundle

    options = build_quantize_parser().parse_args(words)
    pictures = choose_pictures(find_samples(options.data, "train"), options.exclude, options.pictures)
    progress = sys.stderr.isatty()
    print(quantize_bundle(options.bundle, pictures, limit=options.limit, keep_float=options.float, progress=progress))
    return 0


def _build_tensorrt(words: list[str]) -> int:
    # Building needs TensorRT as well; exporting does not.
    from engine.export.tensorrt import build_bundle

    options = build_tensorrt_parser().parse_args(words)
    types, capabilities = tuple(options.type or REDUCED_TYPES), tuple(options.capability or [""])
    print(build_bundle(options.bundle, compute_types=types, capabilities=capabilities))
    return 0


def _cubins(words: list[str]) -> int:
    from engine.export.cubins import ARCHITECTURES, add_cubins

    options = build_cubins_parser().parse_args(words)
    bundle = add_cubins(options.bundle, options.arch or ARCHITECTURES)
    kernels = load_cubins(bundle.path)
    size = kernels.path.stat().st_size
    print(f"{kernels.path}: {len(kernels.entries)} cubins, {size / 2**20:.2f} MiB, digest {bundle.digest[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
