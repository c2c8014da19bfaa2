"""``crowd eval``: the error on annotated pictures."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from engine.cli.counter_options import CounterFactory, make_counter
from engine.cli.extras import needs_extra
from engine.cli.outputs import check_output_file, open_whole
from engine.cli.terminal import Status
from engine.dataset import options as dataset
from engine.dataset.formats import SPLITS
from engine.errors import ConfigError

# What it does, and an example.
TEXTS = ("measure the error on annotated pictures", "crowd eval ShanghaiTech --split test --steps 1 2 3")


def add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that are this command's own."""
    dataset.add_arguments(parser)
    parser.add_argument("--split", choices=SPLITS, help="pictures in folders called so; train is all others too")
    parser.add_argument("--only-digit", type=int, choices=range(10), metavar="D", help="pictures numbered ...D only")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N pictures only")
    parser.add_argument("--steps", type=int, nargs="+", metavar="S", help="denoising steps, one table row each")
    parser.add_argument("--json", metavar="FILE", help="write the count of every picture as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def run(options: argparse.Namespace, factory: CounterFactory) -> int:
    """Count and print a table; 0."""
    with needs_extra("eval"):
        from engine.evaluation.evaluate import evaluate

    check_output_file("--json", options.json)
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit must be at least 1, got {options.limit}")
    if options.performance == "throughput":
        raise ConfigError(
            "crowd eval times pictures one by one, and --performance throughput would use one core for each"
        )
    samples = dataset.read_samples(options, *[options.split] if options.split else [])
    samples = [s for s in samples if options.only_digit in (None, s.number % 10)][: options.limit]
    if not samples:
        raise ConfigError(f"no picture of {options.data} is left after --only-digit and --limit")
    with contextlib.closing(make_counter(options, factory, None)) as counter:
        evaluation = evaluate(counter, samples, options.steps or [None], not options.quiet and sys.stderr.isatty())
    print(evaluation.table())
    if options.json is not None:
        with open_whole(options.json) as file:
            file.write(json.dumps(evaluation.to_dicts(), indent=1) + "\n")
    return Status.OK
