"""The options of every command that counts, and the counter that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

# Takes the arguments of ``engine.CrowdCounter``.
CounterFactory = Callable[..., Any]


def add_arguments(parser: argparse.ArgumentParser, performance: str) -> None:
    """Add the options; ``performance`` is the default of that one."""
    parser.add_argument("--model", default="default", help='"default" or the path of a bundle')
    parser.add_argument("--samples", type=int, default=1, help="noise samples to average (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--backend", default="auto", help="auto, openvino, tensorrt or torch (default: auto)")
    parser.add_argument(
        "--compute-type", default="default", help="default, float32, bfloat16, float16 or int8 (default: default)"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 is all cores (default: 0)")
    parser.add_argument(
        "--performance",
        default=performance,
        help="on a CPU: balanced, latency (compiles for each size of picture) or throughput (a picture on each core) "
        "(default: %(default)s)",
    )


def make_counter(options: argparse.Namespace, factory: CounterFactory, steps: int | None) -> Any:
    """The counter of the options, with ``steps`` as its own number of steps."""
    return factory(
        model=options.model,
        device=options.device,
        backend=options.backend,
        compute_type=options.compute_type,
        steps=steps,
        samples=options.samples,
        seed=options.seed,
        cpu_threads=options.threads,
        performance=options.performance,
    )
