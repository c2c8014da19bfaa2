"""Folders with all that is below them, also through links."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.config import PICTURE_SUFFIXES


def is_picture(name: str) -> bool:
    """Whether a file in a folder is called as a picture is; macOS keeps files ``._NAME`` of its own beside others.

    >>> [is_picture(name) for name in ("a.JPG", "._a.jpg", "notes.txt")]
    [True, False, False]
    """
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES and not name.startswith("._")


def natural_key(path: str) -> tuple[list[list[str | int]], str]:
    """Sorts paths as people do: by the value of the numbers in them, folder by folder.

    >>> sorted(["frame_10.png", "frame_9.png", "frame_2.png"], key=natural_key)
    ['frame_2.png', 'frame_9.png', 'frame_10.png']
    """
    names = path.replace(os.sep, "/").split("/")
    # Every second piece is a number, so that like is compared with like.
    pieces = [re.split(r"([0-9]+)", name) for name in names]
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(row)] for row in pieces], path


def walk(root: str | os.PathLike[str], on_error: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """``root`` and every folder below it, in the natural order of their names, each with the names of its files.

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
        folders.sort(key=natural_key)
        yield Path(folder), sorted(files, key=natural_key)
