"""Results -> lines, JSON, CSV, and files beside them."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from engine.cli.inputs import STDIN, Pictures
from engine.cli.terminal import Terminal, printable
from engine.config import PICTURE_SUFFIXES
from engine.errors import ConfigError
from engine.system.files import is_replaceable, whole_file

if TYPE_CHECKING:
    from engine.outputs.records import TextStream
    from engine.result import CountResult

STDOUT = "-"


def text_line(record: Mapping[str, Any]) -> str:
    """One line for people: ``photo.jpg: 123 people (110-135)``."""
    people, (low, high) = record["count"], record["interval"]
    return f"{printable(record['file'])}: {people} {'person' if people == 1 else 'people'} ({low}-{high})"


def open_text(path: str | Path) -> IO[str]:
    """A new file of UTF-8 with lines as they are written; bytes of file names that are no text are escaped."""
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="")


@contextlib.contextmanager
def open_whole(path: str) -> Iterator[TextStream]:
    """Standard output, or a file that appears when it is complete and not before."""
    if path == STDOUT:
        yield Terminal()
        return
    # A link is followed.
    target = Path(path).resolve()
    appears = whole_file(target) if is_replaceable(target) else contextlib.nullcontext(target)
    with appears as part, open_text(part) as stream:
        yield stream


def plan_saving(
    pictures: Pictures | None, overlay_path: str | None, map_path: str | None
) -> Callable[[int, CountResult], None]:
    """What writes the overlay and the density map of picture number ``i``, each if there is a path for it.

    Args:
        pictures: None for a manifest, of which nothing is saved.

    Raises:
        ConfigError: as :func:`plan_targets`, or the maps would not be .npy files, or the overlay of no kind that is
            saved.
    """
    overlays = _targets(overlay_path, pictures, ".jpg")
    maps = _targets(map_path, pictures, ".npy")

    def save(number: int, result: CountResult) -> None:
        for targets in (overlays, maps):
            if targets:
                result.save(targets[number])

    return save


def _targets(path: str | None, pictures: Pictures | None, suffix: str) -> list[Path]:
    if path is None or pictures is None or not pictures.paths:
        return []
    targets = plan_targets(pictures.paths, path, suffix, pictures.many)
    if suffix == ".npy" and targets[0].suffix != suffix:
        raise ConfigError(f"--save-map writes .npy files, got {path}")
    from engine.drawing.picture_file import SAVED  # Here, so that --help loads no drawing.

    if targets[0].suffix.lower() not in SAVED:
        raise ConfigError(f"--save writes a file that ends in one of {', '.join(SAVED)}, got {path}")
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    return targets


def plan_targets(pictures: Sequence[str], path: str, suffix: str, many: bool) -> list[Path]:
    """Where the file made from each picture goes: ``path``, or a file of its own name in that folder.

    Args:
        pictures: as from ``find_pictures``.
        suffix: of the files in a folder, with its dot.
        many: ``path`` is a folder.

    Raises:
        ConfigError: a file would overwrite one of the pictures, or a folder is needed and a file is named.
    """
    if many and not Path(path).is_dir() and Path(path).suffix.lower() in {*PICTURE_SUFFIXES, ".npy"}:
        raise ConfigError(f"several inputs need a folder to save to, got the file name {path}")
    folder = many or Path(path).is_dir() or path.endswith(("/", os.sep))
    targets = _unused_names(pictures, Path(path), suffix) if folder else [Path(path)]
    originals = {Path(p).resolve() for p in pictures if p != STDIN}
    for target in targets:
        if target.resolve() in originals:
            raise ConfigError(f"{target} is one of the pictures to count; write to another file or folder")
    return targets


def _unused_names(pictures: Sequence[str], folder: Path, suffix: str) -> list[Path]:
    """A file for each picture, in the folders that the pictures have below the one that is common to all."""
    files = [os.path.abspath(picture) for picture in pictures if picture != STDIN]
    root = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    # Compared without case, as some file systems do.
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    targets = []
    for picture in pictures:
        path = (
            "stdin" if picture == STDIN else os.path.splitext(os.path.abspath(picture)[len(root) :].lstrip(os.sep))[0]
        )
        name, number = path, numbers.get(path.lower(), 1)
        while name.lower() in taken:
            number += 1
            name = f"{path}-{number}"
        numbers[path.lower()] = number
        taken.add(name.lower())
        targets.append(folder / (name + suffix))
    return targets


def check_output_file(option: str, path: str | None) -> None:
    """Refuse ``--json photo.jpg``: the picture was meant as an input and would be overwritten.

    Raises:
        ConfigError: ``path`` is a folder, is in no folder, or has the suffix of a picture or of a map.
    """
    if path is None or path == STDOUT:
        return
    if Path(path).suffix.lower() in {*PICTURE_SUFFIXES, ".npy"} or Path(path).is_dir():
        raise ConfigError(f"{option} would write to {path}; put the pictures first, or write {option}=FILE")
    if not Path(path).parent.is_dir():
        raise ConfigError(f"{option} cannot write to {path}: the folder {Path(path).parent} does not exist")


def files_of_settings(options: argparse.Namespace) -> list[str]:
    """The files that the options name beside what is counted: the zones, and those of the model's bundle."""
    model, zones = Path(options.model), getattr(options, "zones", None)
    bundle = sorted(map(str, model.iterdir())) if model.is_dir() else []
    return bundle if zones is None else [zones, *bundle]


def refuse_shared_files(outputs: Mapping[str, str | None], inputs: Iterable[str]) -> None:
    """Refuse outputs that would overwrite an input or one another.

    Args:
        outputs: by option, the file or folder it writes to.
        inputs: what is read, such as the pictures and :func:`files_of_settings`; names of anything but files are no
            harm.

    Raises:
        ConfigError: two of them are the same file.
    """
    taken = {Path(name).resolve(): "" for name in inputs if Path(name).is_file()}
    for option, path in outputs.items():
        # A device takes any number of outputs.
        if path is None or path == STDOUT or path.endswith(("/", os.sep)) or not is_replaceable(Path(path)):
            continue
        other = taken.setdefault(Path(path).resolve(), option)
        if not other:
            raise ConfigError(f"{option} would overwrite {path}, which is an input; write to another file")
        if other != option:
            raise ConfigError(f"{other} and {option} would both write to {path}; give each a file of its own")
