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
from engine.image.load import load_image
from engine.model.checkpoint import load_network, load_state, save_model
from engine.model.network import CrowdNetwork
from engine.training.arguments import build_parser, check_options
from engine.training.average import average_weights, fit_norms
from engine.training.calibrate import calibrate
from engine.training.compare import compare_decoders, table
from engine.training.config import TrainConfig
from engine.training.fine_tuning import fine_tune
from engine.training.overwriting import refuse_overwriting
from engine.training.recipe import DEFAULT, FINE_TUNING, config_of, read_recipe, run_recipe
from engine.training.rule import LEAST_PICTURES
from engine.training.run_record import (
    RUN,
    kept_options,
    list_pictures,
    read_record,
    recall,
    refuse_others,
    rules_of,
    settings,
    write_record,
)
from engine.training.split import check_split, find_scenes, left_out, without
from engine.training.start import start_counting, start_model, start_network
from engine.training.train import make_batches, train

_PROG = "python -m engine.training"


def run(arguments: list[str], prog: str) -> None:
    """Train, calibrate, average or compare, as the arguments say.

    Raises:
        EngineError: it cannot be done.
    """
    options = build_parser(prog).parse_args(arguments)
    check_options(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    refuse_overwriting(options)
    is_tuning = options.command == "train" and recall(options)
    samples = dataset.read_samples(options, "train", "val")
    if is_tuning:
        _fine_tune(options, samples)
        return
    train_on, held_out = check_split(samples, options.exclude, options.validate, options.command != "calibrate")
    print(f"{len(train_on)} pictures to train on, {len(held_out)} held out")
    if options.command == "train":
        _train(options, train_on, held_out)
    elif options.command == "compare":
        _compare(options.start, options.iterations, train_on, held_out)
    elif options.command == "average":
        _average(options, train_on, held_out)
    else:
        _calibrate(load_network(options.checkpoint), train_on, held_out, options.out, {})


def main(arguments: list[str] | None = None) -> None:
    """``python -m engine.training``: :func:`run`, which errors of the engine end with a message and status 1."""
    try:
        run(sys.argv[1:] if arguments is None else arguments, _PROG)
    except EngineError as error:
        raise SystemExit(f"error: {error}") from error


def _train(options: argparse.Namespace, train_on: list[Sample], held_out: list[Sample]) -> None:
    """Begin a whole run or go on with one, and calibrate what it gives."""
    if options.keep:
        raise ConfigError("--keep judges a fine-tuned model: give --start, and no --recipe")
    config, record = _config(options, DEFAULT), read_record(options.out) if options.resume else {}
    goes_on = options.resume and (options.out / "last.pt").is_file()
    start = None if goes_on else options.start
    if start and start_model(start).own_rate:
        raise ConfigError(f"{start} was fine-tuned: start from what it was tuned from, or give no --recipe")
    if options.start:
        # A run has the network of its start, whatever the recipe says.
        model = run_recipe(options.out / "last.pt").model if goes_on else start_model(options.start)
        config = dataclasses.replace(config, model=model)
    digits = left_out([*train_on, *held_out], options.exclude, options.validate)
    scenes = find_scenes(options.without_people, digits) if options.without_people else []
    kinds = {"trained": train_on, "held_out": held_out, "without_people": scenes}
    pictures = {kind: list_pictures(chosen) for kind, chosen in kinds.items()}
    if record:
        refuse_others(options.out, record.get("pictures", {}), pictures)
        rules = rules_of(record)
    else:
        rules = start_counting(options.start) if options.start else {}
        if goes_on:
            print(f"{options.out} does not say what its run was begun with; it goes on with the pictures of now")
        _begin(options, config, rules, pictures)
    best = train(
        config,
        train_on,
        held_out,
        options.out,
        device=options.device,
        resume=options.resume,
        start=start,
        compiled=options.compile,
        scenes=_pixels(scenes),
    )
    _calibrate(load_network(best), train_on, held_out, options.out / "model.pt", rules)


def _begin(
    options: argparse.Namespace, config: TrainConfig, rules: dict[int, CountingRule], pictures: dict[str, list]
) -> None:
    """Write what a run that goes on is to have. Its later settings are in its checkpoints."""
    counting = {number: dataclasses.asdict(rule) for number, rule in rules.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    about = {"options": kept_options(options), "counting": counting, "pictures": pictures, "config": settings(config)}
    write_record(options.out / RUN, about)


def _pixels(scenes: list[Sample]) -> list[np.ndarray]:
    return [load_image(sample.image) for sample in scenes]


def _average(options: argparse.Namespace, train_on: list[Sample], held_out: list[Sample]) -> None:
    first = options.checkpoints[0]
    network = average_weights(options.checkpoints)
    if network.config.own_rate:
        raise ConfigError(f"{first} was fine-tuned: average what it was tuned from")
    config = read_recipe(options.recipe) if options.recipe else run_recipe(first)
    if not options.recipe and "augment" not in load_state(first)["config"]:
        print(f"{first} does not say what crops its run had: default ones are taken, as no --recipe says what others")
    batches = make_batches(train_on, dataclasses.replace(config, model=network.config), "cpu")
    fit_norms(network, batches, config.loss)
    _calibrate(network, train_on, held_out, options.out, {})


def _fine_tune(options: argparse.Namespace, samples: list[Sample]) -> None:
    if options.validate is not None:
        raise ConfigError("--validate is for training anew: fine-tuning holds out each picture in turn")
    digits = options.exclude or ()
    verdict = fine_tune(
        _config(options, FINE_TUNING),
        without(samples, digits),
        options.out,
        start=options.start or "",
        keep=find_samples(options.keep) if options.keep else (),
        device=options.device,
        resume=options.resume,
        compiled=options.compile,
        scenes=_pixels(find_scenes(options.without_people, digits)) if options.without_people else (),
        options=kept_options(options),
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
    """The settings of the run that goes on, or of the recipe, with those of the options in their place."""
    last, config = options.out / "last.pt", None
    if options.resume and not options.recipe:
        if last.is_file():
            config = run_recipe(last)
        elif "config" in (record := read_record(options.out)):
            config = config_of(record["config"], str(options.out))
    config = config or read_recipe(options.recipe or default)
    if options.minutes is not None and options.iterations is None:
        config = dataclasses.replace(config, iterations=0)
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
