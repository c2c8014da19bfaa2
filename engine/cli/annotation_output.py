"""``crowd count --annotations``: heads as the annotations of other tools."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.cli.inputs import STDIN
from engine.cli.outputs import STDOUT, check_output_file
from engine.dataset.formats import FORMATS
from engine.errors import ConfigError

# Side of a head's box, in pixels, where the format wants boxes.
_BOX = 16.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--annotations", metavar="PATH", help="heads as annotations to correct in other tools")
    parser.add_argument(
        "--annotations-format",
        choices=tuple(FORMATS),
        help="their format (default: .json coco, .xml cvat, .csv points-csv)",
    )
    parser.add_argument(
        "--annotations-box",
        type=float,
        metavar="PIXELS",
        help=f"side of heads' boxes (default: {_BOX:g})",
    )


def check(options: argparse.Namespace, pictures: Sequence[str]) -> dict[str, str | None]:
    """The file that the annotations will be, by the option's name; none if they are a folder of files.

    Raises:
        ConfigError: their format is not known, they would be of standard input, or one of their files is a table's.
    """
    from engine.dataset.writer import format_of, is_folder

    form = format_of(Path(options.annotations), options.annotations_format)
    folder = is_folder(form)
    if options.annotations == STDOUT:
        raise ConfigError("--annotations are written to a file or folder, not to standard output; name one")
    if STDIN in pictures:
        raise ConfigError("--annotations name pictures, and standard input has no name; give the file")
    if not 0 < _box(options) < 1e6:
        raise ConfigError(f"--annotations-box must be a positive number of pixels, got {options.annotations_box:g}")
    if folder:
        if Path(options.annotations).is_file():
            raise ConfigError(
                f"--annotations in this format are a folder of files, and {options.annotations} is a file"
            )
        _refuse_tables(options, form, pictures)
        return {}
    check_output_file("--annotations", options.annotations)
    return {"--annotations": options.annotations}


def _refuse_tables(options: argparse.Namespace, form: str, pictures: Sequence[str]) -> None:
    """Refuse tables within the folder of annotations under the name of one of its files."""
    from engine.dataset.writer import annotation_files

    named = {f"--{name}": getattr(options, name) for name in ("csv", "json", "jsonl")}
    tables = {Path(path).resolve(): option for option, path in named.items() if path not in (None, STDOUT)}
    for file in annotation_files(Path(options.annotations), form, pictures) if tables else ():
        if option := tables.get(file.resolve()):
            raise ConfigError(f"{option} and --annotations would both write to {file}; give each a file of its own")


@contextlib.contextmanager
def writer(options: argparse.Namespace, pictures: Sequence[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What writes the annotations of each row; rows with an error have none."""
    import numpy as np

    from engine.dataset.writer import annotation_writer, format_of

    path = Path(options.annotations)
    form = format_of(path, options.annotations_format)
    with annotation_writer(path, form, pictures, _box(options), options.resume) as write:

        def write_row(record: dict[str, Any]) -> None:
            if record["count"] is not None:
                width, height = record["image_size"]
                write(record["file"], (width, height), np.array(record["points"], np.float32).reshape(-1, 2))

        yield write_row


def _box(options: argparse.Namespace) -> float:
    box: float = _BOX if options.annotations_box is None else options.annotations_box
    return box
