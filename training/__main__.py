"""``python -m engine.training``: train a model on annotated pictures, and calibrate it."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch

from engine.config import ModelConfig
from engine.errors import EngineError
from engine.model.checkpoint import load_network, save_model
from engine.training.augment import AugmentConfig
from engine.training.calibrate import calibrate
from engine.training.dataset import Sample, find_samples
from engine.training.losses import LossConfig
from engine.training.train import TrainConfig, train

_DATA_HELP = "folder in ShanghaiTech's layout, or with images/ and points.json or points.csv beside it"


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m engine.training",
        description="Train the crowd counter on pictures with one point per head.",
        epilog="Then: python -m engine.export OUT/model.pt my_bundle; crowd count --model my_bundle photo.jpg",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    defaults = argparse.ArgumentDefaultsHelpFormatter
    run = commands.add_parser("train", help="train, then calibrate", formatter_class=defaults)
    run.add_argument("data", type=Path, help=_DATA_HELP)
    run.add_argument("--out", type=Path, default=Path("runs/default"), help="where checkpoints and the log go")
    run.add_argument("--minutes", type=float, default=TrainConfig.minutes, help="length of the run")
    run.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    run.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    run.add_argument("--batch", type=int, default=TrainConfig.batch, help="crops per step")
    run.add_argument("--crop", type=int, default=ModelConfig.crop_size, help="pixels per side; a multiple of 32")
    run.add_argument("--learning-rate", type=float, default=TrainConfig.learning_rate, help="of AdamW, at its peak")
    run.add_argument("--foreground", type=float, default=LossConfig.foreground, help="extra loss weight near heads")
    run.add_argument("--scale", type=float, nargs=2, default=AugmentConfig.scale, help="range of the random zoom")
    run.add_argument("--validate-every", type=float, default=TrainConfig.validate_every, help="minutes")
    run.add_argument("--seed", type=int, default=TrainConfig.seed, help="of weights, crops and noise")
    fit = commands.add_parser("calibrate", help="fit the counting rule of a checkpoint", formatter_class=defaults)
    fit.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a run")
    fit.add_argument("data", type=Path, help=_DATA_HELP)
    fit.add_argument("--out", type=Path, default=Path("model.pt"), help="the calibrated model")
    for command in (run, fit):
        command.add_argument("--threads", type=int, default=0, help="CPU threads; 0 is all")
        command.add_argument(
            "--exclude", type=int, nargs="*", default=[0], help="last digits of picture numbers never looked at"
        )
        command.add_argument(
            "--validate", type=int, nargs="+", default=[5], help="last digits that pick the best weights and calibrate"
        )
    return parser


def split(samples: list[Sample], exclude: list[int], validate: list[int]) -> tuple[list[Sample], list[Sample]]:
    """By the last digit of the pictures' numbers: (to train on, to validate on)."""
    held_out = [s for s in samples if s.number % 10 in validate and s.number % 10 not in exclude]
    return [s for s in samples if s.number % 10 not in {*exclude, *validate}], held_out


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors of the engine end it with a message."""
    options = build_parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        train_on, held_out = split(find_samples(options.data), options.exclude, options.validate)
        print(f"{len(train_on)} pictures to train on, {len(held_out)} held out")
        if options.command == "train":
            best = train(_config(options), train_on, held_out, options.out, options.device, options.resume)
            _calibrate(best, held_out, options.out / "model.pt")
        else:
            _calibrate(options.checkpoint, held_out, options.out)
    except EngineError as error:
        raise SystemExit(f"error: {error}") from error


def _config(options: argparse.Namespace) -> TrainConfig:
    return TrainConfig(
        minutes=options.minutes,
        batch=options.batch,
        learning_rate=options.learning_rate,
        validate_every=options.validate_every,
        seed=options.seed,
        model=ModelConfig(crop_size=options.crop),
        loss=LossConfig(foreground=options.foreground),
        augment=AugmentConfig(scale=tuple(options.scale)),
    )


def _calibrate(checkpoint: Path, held_out: list[Sample], out: Path) -> None:
    network = load_network(checkpoint)
    fits = calibrate(network, network.config, held_out)
    for number, fit in fits.items():
        errors = ", ".join(f"MAE {part} {error:.1f}" for part, error in fit.errors.items())
        print(f"{number:>2} steps: threshold {fit.rule.low:.2f} to {fit.rule.high:.2f}, {errors} (cross-validated)")
    save_model(network, {number: dataclasses.asdict(fit.rule) for number, fit in fits.items()}, out)
    print(f"calibrated model: {out}")


if __name__ == "__main__":
    main()
