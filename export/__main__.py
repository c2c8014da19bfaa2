"""``python -m engine.export``: write a bundle from a checkpoint, or verify one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.bundle import load_bundle
from engine.config import CountingRule
from engine.errors import EngineError
from engine.export.bundle_writer import export_bundle


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the export itself."""
    parser = argparse.ArgumentParser(
        prog="crowd export",
        description="Turn a checkpoint into a bundle that the engine loads.",
        epilog="To compare a bundle with PyTorch: crowd export verify BUNDLE",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, help="file written by training, such as runs/default/best.pt")
    parser.add_argument("out", type=Path, help="folder of the bundle; must not exist")
    parser.add_argument("--name", help="of the model; the folder's name by default")
    parser.add_argument("--steps", type=int, default=3, help="denoising steps when a caller names none")
    parser.add_argument(
        "--threshold", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the peak threshold, instead of the calibrated one in the checkpoint",
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        return _verify(words[1:]) if words[:1] == ["verify"] else _export(words)
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
    from engine.images import load_image

    options = build_verify_parser().parse_args(words)
    named = [tuple(x.split(":", 1)) if ":" in x else (x, "float32") for x in options.backend or ["openvino"]]
    picture = load_image(options.picture) if options.picture else None
    report = verify_bundle(options.bundle, backends=tuple(named), picture=picture, steps=options.steps)
    print(report)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
