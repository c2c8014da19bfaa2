"""Options of the commands that read annotated pictures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.dataset.formats import FORMATS

if TYPE_CHECKING:
    from engine.dataset.samples import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATA and the options that say how to read it."""
    parser.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="folder of annotated pictures, or an annotation file (docs/annotations.md)",
    )
    parser.add_argument("--annotations", metavar="PATH", type=Path, help="annotations that are not in the folder DATA")
    parser.add_argument(
        "--annotations-format", choices=tuple(FORMATS), help="format of the annotations (default: it is recognised)"
    )
    parser.add_argument(
        "--label", action="append", default=[], help="label to count (default: head, else person, else the only one)"
    )


def read_samples(options: argparse.Namespace, *splits: str) -> list[Sample]:
    """The samples that the options name; of all splits if none is given."""
    # Here, so that --help loads no array library.
    from engine.dataset.samples import find_samples

    return find_samples(
        options.data,
        splits or None,
        annotations=options.annotations,
        form=options.annotations_format,
        labels=options.label,
    )
