"""The command line of ``python -m engine.training`` and ``crowd train``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from engine.config import check_range
from engine.dataset import options as dataset
from engine.errors import ConfigError
from engine.training.recipe import DEFAULT, FINE_TUNING


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train the crowd counter on pictures with one point per head.",
        epilog="Then: crowd export OUT/model.pt my_bundle; crowd count --model my_bundle photo.jpg",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "train",
        help="train, then calibrate",
        description="Train a model on pictures with one point per head, then fit its counting rule on those held out.",
        epilog=f"examples:\n  {prog} train DATA --out runs/mine\n  {prog} train DATA --out runs/mine --resume\n"
        f"  {prog} train photos/ --out runs/tuned --start default\n"
        "then:\n  crowd export runs/mine/model.pt my-bundle && crowd count --model my-bundle photo.jpg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dataset.add_arguments(run)
    _add_run(run)
    _add_settings(run)
    fit = commands.add_parser("calibrate", help="fit the counting rule of a checkpoint")
    fit.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a run")
    dataset.add_arguments(fit)
    fit.add_argument("--out", type=Path, default=Path("model.pt"), help="the calibrated model (default: %(default)s)")
    mean = commands.add_parser("average", help="mean of the weights of checkpoints, with a counting rule of its own")
    dataset.add_arguments(mean)
    mean.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="of one run, such as best and last"
    )
    mean.add_argument(
        "--recipe", type=Path, help="its crops give the batch norms their statistics (default: those of the run)"
    )
    mean.add_argument("--out", type=Path, default=Path("model.pt"), help="the calibrated model (default: %(default)s)")
    contest = commands.add_parser("compare", help="train other kinds of decoder beside ours, on a frozen encoder")
    dataset.add_arguments(contest)
    contest.add_argument("--start", default="default", help="checkpoint or bundle that the encoder comes from")
    contest.add_argument("--iterations", type=int, default=1500, help="of each decoder (default: %(default)s)")
    for command in (run, fit, mean, contest):
        _add_split(command)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    """What is trained, from where, and where to."""
    run.add_argument(
        "--out", type=Path, default=Path("runs/default"), help="for checkpoints and the log (default: %(default)s)"
    )
    run.add_argument(
        "--without-people", type=Path, metavar="FOLDER", help="pictures in which nobody is; train on them too"
    )
    run.add_argument(
        "--recipe",
        type=Path,
        help=f"JSON file of settings; the options below override it (default: {DEFAULT.name}, with --start "
        f"{FINE_TUNING.name})",
    )
    run.add_argument(
        "--start",
        help="checkpoint, bundle or 'default' to fine-tune, which is refused where held-out pictures are counted no "
        "better; with --recipe, to train on from",
    )
    run.add_argument(
        "--keep",
        type=Path,
        metavar="DATA",
        help="annotated pictures that a fine-tuned model must not be clearly worse on; all of them are held out",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in OUT, with the pictures and settings that it was begun with; else a run there is "
        "refused",
    )
    run.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)"
    )
    run.add_argument(
        "--compile", action="store_true", help="use torch.compile: faster steps, but slower ones of a pre-trained trunk"
    )


def _add_settings(run: argparse.ArgumentParser) -> None:
    """Single settings, in place of the recipe's."""
    run.add_argument("--iterations", type=int, help="length of the run")
    run.add_argument("--minutes", type=float, help="length of the run, in place of iterations")
    run.add_argument("--batch", type=int, help="crops per step")
    run.add_argument("--crop", type=int, help="pixels per side, a multiple of 64")
    run.add_argument("--learning-rate", type=float, help="at its peak")
    run.add_argument("--scale", type=float, nargs=2, help="range of the zoom")
    run.add_argument("--validate-every", type=float, help="minutes")
    run.add_argument("--seed", type=int, help="of weights, crops and noise")


def _add_split(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threads", type=int, default=0, help="CPU threads; 0 is all")
    command.add_argument(
        "--exclude",
        type=int,
        nargs="*",
        help="last digits of picture numbers never used (default: 0, or with a split val none)",
    )
    command.add_argument(
        "--validate",
        type=int,
        nargs="+",
        help="last digits to validate and calibrate on (default: the split val, or 5)",
    )


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that cannot be, and a device that is not there.

    Raises:
        ConfigError: one of them is so.
    """
    check_range("--threads", options.threads, 0, 1024)
    for digit in (*(options.exclude or ()), *(options.validate or ())):
        check_range("a last digit of --exclude and --validate", digit, 0, 9)
    if options.command == "compare":
        check_range("--iterations", options.iterations, 1, 10**9)
    if options.command == "train":
        check_device(options.device)


def check_device(device: str) -> None:
    """Refuse a device that is not "cpu", "cuda" or "cuda:N", or that this machine does not have.

    Raises:
        ConfigError: it is one of these.
    """
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", device):
        raise ConfigError(f"--device must be cpu, cuda or cuda:N, got {device!r}")
    if device == "cpu":
        return
    number = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available():
        raise ConfigError(f"--device {device}: PyTorch finds no GPU here (crowd doctor says more); use --device cpu")
    if number >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: there are {torch.cuda.device_count()} GPUs, the first is cuda:0")
