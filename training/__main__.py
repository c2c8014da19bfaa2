"""``python -m engine.training``: train a model on annotated pictures, and calibrate it."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch

from engine.config import CountingRule
from engine.dataset import options as dataset
from engine.dataset.samples import Sample, find_samples
from engine.errors import ConfigError, EngineError
from engine.image.folders import is_picture
from engine.image.load import load_image
from engine.model.checkpoint import load_network, save_model
from engine.model.network import CrowdNetwork
from engine.training.average import average_weights, fit_norms
from engine.training.calibrate import calibrate
from engine.training.compare import compare_decoders, table
from engine.training.config import TrainConfig
from engine.training.fine_tuning import fine_tune
from engine.training.overwriting import refuse_overwriting
from engine.training.recipe import DEFAULT, FINE_TUNING, read_recipe, run_recipe
from engine.training.rule import LEAST_PICTURES
from engine.training.start import start_counting, start_model, start_network
from engine.training.train import make_batches, train

_PROG = "python -m engine.training"


def build_parser(prog: str = _PROG) -> argparse.ArgumentParser:
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
    run.add_argument("--resume", action="store_true", help="go on from OUT/last.pt; else a run there is refused")
    run.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda (default: %(default)s)"
    )
    run.add_argument(
        "--compile", action="store_true", help="use torch.compile: faster steps, but slower ones of a pre-trained trunk"
    )
    run.add_argument("--iterations", type=int, help="length of the run")
    run.add_argument("--minutes", type=float, help="length of the run, in place of iterations")
    run.add_argument("--batch", type=int, help="crops per step")
    run.add_argument("--crop", type=int, help="pixels per side, a multiple of 64")
    run.add_argument("--learning-rate", type=float, help="at its peak")
    run.add_argument("--scale", type=float, nargs=2, help="range of the zoom")
    run.add_argument("--validate-every", type=float, help="minutes")
    run.add_argument("--seed", type=int, help="of weights, crops and noise")
    fit = commands.add_parser("calibrate", help="fit the counting rule of a checkpoint")
    fit.add_argument("checkpoint", type=Path, help="best.pt or last.pt of a run")
    dataset.add_arguments(fit)
    fit.add_argument("--out", type=Path, default=Path("model.pt"), help="the calibrated model (default: %(default)s)")
    mean = commands.add_parser("average", help="mean of the weights of checkpoints, with a counting rule of its own")
    dataset.add_arguments(mean)
    mean.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="of one run, such as best and last"
    )
    mean.add_argument("--recipe", type=Path, help="of the run: its crops give the batch norms their statistics")
    mean.add_argument("--out", type=Path, default=Path("model.pt"), help="the calibrated model (default: %(default)s)")
    contest = commands.add_parser("compare", help="train other kinds of decoder beside ours, on a frozen encoder")
    dataset.add_arguments(contest)
    contest.add_argument("--start", default="default", help="checkpoint or bundle that the encoder comes from")
    contest.add_argument("--iterations", type=int, default=1500, help="of each decoder (default: %(default)s)")
    for command in (run, fit, mean, contest):
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
    return parser


def split(
    samples: list[Sample], exclude: list[int] | None, validate: list[int] | None
) -> tuple[list[Sample], list[Sample]]:
    """(To train on, to validate on): the data's own split, or by the last digit of the pictures' numbers."""
    if exclude is validate is None and any(s.split == "val" for s in samples):
        return [s for s in samples if s.split != "val"], [s for s in samples if s.split == "val"]
    exclude, validate = [0] if exclude is None else exclude, validate or [5]
    held_out = [s for s in samples if s.number % 10 in validate and s.number % 10 not in exclude]
    return [s for s in samples if s.number % 10 not in {*exclude, *validate}], held_out


def run(arguments: list[str], prog: str) -> None:
    """Train, calibrate, average or compare, as the arguments say.

    Raises:
        EngineError: it cannot be done.
    """
    options = build_parser(prog).parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    refuse_overwriting(options)
    samples = dataset.read_samples(options, "train", "val")
    if options.command == "train" and options.start and not options.recipe:
        _fine_tune(options, samples)
        return
    train_on, held_out = split(samples, options.exclude, options.validate)
    print(f"{len(train_on)} pictures to train on, {len(held_out)} held out")
    _check_split(options, train_on, held_out)
    if options.command == "train":
        if options.keep:
            raise ConfigError("--keep judges a fine-tuned model: give --start, and no --recipe")
        config = _config(options, DEFAULT)
        if options.start and start_model(options.start).own_rate:
            raise ConfigError(f"{options.start} was fine-tuned: start from what it was tuned from, or give no --recipe")
        best = train(
            config,
            train_on,
            held_out,
            options.out,
            device=options.device,
            resume=options.resume,
            start=options.start,
            compiled=options.compile,
            scenes=_scenes(options) if options.without_people else (),
        )
        known = start_counting(options.start) if options.start else {}
        _calibrate(load_network(best), train_on, held_out, options.out / "model.pt", known)
    elif options.command == "compare":
        _compare(options.start, options.iterations, train_on, held_out)
    elif options.command == "average":
        config = read_recipe(options.recipe) if options.recipe else TrainConfig()
        network = average_weights(options.checkpoints)
        if network.config.own_rate:
            raise ConfigError(f"{options.checkpoints[0]} was fine-tuned: average what it was tuned from")
        batches = make_batches(train_on, dataclasses.replace(config, model=network.config), "cpu")
        fit_norms(network, batches, config.loss)
        _calibrate(network, train_on, held_out, options.out, {})
    else:
        _calibrate(load_network(options.checkpoint), train_on, held_out, options.out, {})


def main(arguments: list[str] | None = None) -> None:
    """``python -m engine.training``: :func:`run`, which errors of the engine end with a message and status 1."""
    try:
        run(sys.argv[1:] if arguments is None else arguments, _PROG)
    except EngineError as error:
        raise SystemExit(f"error: {error}") from error


def _scenes(options: argparse.Namespace) -> list[np.ndarray]:
    """Pictures without people, but for those of the digits that are held out."""
    pictures = [path for path in sorted(options.without_people.rglob("*")) if is_picture(path.name)]
    samples = [Sample(path, np.zeros((0, 2), np.float32), "without_people") for path in pictures]
    chosen, _ = split(samples, options.exclude, options.validate)
    if not chosen:
        raise ConfigError(f"there are no pictures to train on below {options.without_people}")
    return [load_image(sample.image) for sample in chosen]


def _check_split(options: argparse.Namespace, train_on: list[Sample], held_out: list[Sample]) -> None:
    if not held_out:
        raise ConfigError(
            f"no picture's number ends in {' or '.join(map(str, options.validate or [5]))}, and the counting rule is "
            "calibrated on such pictures: give other digits to --validate"
        )
    if not train_on and options.command != "calibrate":
        raise ConfigError("no picture is left to train on: give fewer digits to --exclude and --validate")


def _fine_tune(options: argparse.Namespace, samples: list[Sample]) -> None:
    if options.validate is not None:
        raise ConfigError("--validate is for training anew: fine-tuning holds out each picture in turn")
    chosen = [sample for sample in samples if sample.number % 10 not in (options.exclude or ())]
    verdict = fine_tune(
        _config(options, FINE_TUNING),
        chosen,
        options.out,
        start=options.start,
        keep=find_samples(options.keep) if options.keep else (),
        device=options.device,
        resume=options.resume,
        compiled=options.compile,
        scenes=_scenes(options) if options.without_people else (),
    )
    print(f"pictures that were held out: {verdict.own}")
    if verdict.kept:
        print(f"pictures to keep: {verdict.kept}")
    model = options.out / "model.pt"
    if verdict.refusal:
        raise EngineError(f"fine-tuning is refused, {verdict.refusal}; {model} has the weights that it started from")
    if not verdict.own.is_better:
        print("that is within twice its standard error, and may be chance: more pictures would tell")
    print(f"tuned model, with {100 * verdict.share:.0f} % of the new weights: {model}")


def _config(options: argparse.Namespace, default: Path) -> TrainConfig:
    last = options.out / "last.pt"
    if options.resume and not options.recipe and last.is_file():
        config = run_recipe(last)
    else:
        config = read_recipe(options.recipe or default)
    if options.minutes is not None and options.iterations is None:
        # Where its last part begins is not known then.
        config = dataclasses.replace(config, iterations=0, late_crop=0, late=0.0)
    names = ("iterations", "minutes", "batch", "crop", "learning_rate", "validate_every", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.scale:
        given["augment"] = dataclasses.replace(config.augment, scale=tuple(options.scale))
    return dataclasses.replace(config, **given)


def _compare(start: str, iterations: int, train_on: list[Sample], held_out: list[Sample]) -> None:
    # The settings of the model card's table.
    config = TrainConfig(iterations=iterations, optimizer="adamw", learning_rate=1e-3, model=start_model(start))
    print(table(compare_decoders(_started(start, train_on), train_on, held_out, config)))


def _started(start: str, train_on: list[Sample]) -> CrowdNetwork:
    config = TrainConfig(model=start_model(start))
    return start_network(start, make_batches(train_on, config, "cpu")).eval()


def _calibrate(
    network: CrowdNetwork, train_on: list[Sample], held_out: list[Sample], out: Path, known: dict[int, CountingRule]
) -> None:
    """Write the model with a rule fitted on the held-out pictures; where they are too few, with the ``known`` one."""
    few = len(held_out) < LEAST_PICTURES
    if few:
        reason = f"too few held-out pictures to calibrate on ({len(held_out)} of {LEAST_PICTURES})"
        what = "the counting rule that it started from is kept" if known else "expect counts and intervals to be off"
        print(f"{reason}: {what}")
    if few and known:
        save_model(network, {number: dataclasses.asdict(rule) for number, rule in known.items()}, out)
        print(f"model: {out}")
        return
    fits = calibrate(network, train_on, held_out)
    for number, fit in fits.items():
        errors = ", ".join(f"MAE {part} {error:.1f}" for part, error in fit.errors.items())
        print(f"{number:>2} steps: threshold {fit.rule.low:.2f} to {fit.rule.high:.2f}, {errors} (cross-validated)")
    save_model(network, {number: dataclasses.asdict(fit.rule) for number, fit in fits.items()}, out)
    print(f"calibrated model: {out}")


if __name__ == "__main__":
    main()
