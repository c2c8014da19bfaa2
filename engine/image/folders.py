"""Folders with all that is below them, also through links."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk(root: str | os.PathLike[str], on_error: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """``root`` and every folder below it, in the order of their names, each with the names of its files.

    Links to folders are followed, each folder once whatever leads to it, so that none leads round in a circle.

    Args:
        on_error: gets the error of each folder that cannot be read, whose ``filename`` it is; the walk goes on.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, onerror=on_error, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        yield Path(folder), sorted(files)
