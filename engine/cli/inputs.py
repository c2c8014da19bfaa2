"""Arguments of the command line -> the pictures that they name."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import PICTURE_SUFFIXES

STDIN = "-"


@dataclass(frozen=True)
class Pictures:
    """What the arguments name.

    Attributes:
        paths: pictures, in the order of the arguments; ``STDIN`` stands for standard input.
        problems: (argument, reason) of each argument that names no picture.
        many: true if the arguments could name more than one picture, however many there are now.
    """

    paths: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]
    many: bool


def find_pictures(arguments: Sequence[str]) -> Pictures:
    """Expand files, folders (recursively) and glob patterns.

    A file is taken whatever its suffix; within folders the suffix decides. Patterns are expanded here
    too, because the shells of Windows pass them on as they are.
    """
    paths: list[str] = []
    problems = []
    many = len(arguments) > 1
    for argument in arguments:
        # Not only regular files: a named pipe is read like one.
        if argument == STDIN or (os.path.exists(argument) and not os.path.isdir(argument)):
            paths.append(argument)
            continue
        many = True
        found = _expand(argument)
        paths += found
        if not found:
            problems.append((argument, _reason(argument)))
    return Pictures(tuple(paths), tuple(problems), many)


def read_picture(path: str) -> str | bytes:
    """What to hand to the counter: the path, or the bytes of standard input."""
    return sys.stdin.buffer.read() if path == STDIN else path


def _expand(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return _walk(argument)
    # A folder among the matches of a pattern is walked as if it had been named itself.
    matches = sorted(glob.glob(argument, recursive=True))
    return [path for match in matches for path in (_walk(match) if os.path.isdir(match) else [match])]


def _walk(folder: str) -> list[str]:
    return sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())


def _reason(argument: str) -> str:
    if os.path.isdir(argument):
        return f"no pictures in this folder; expected files ending in {', '.join(sorted(PICTURE_SUFFIXES))}"
    if glob.has_magic(argument):
        return "no file matches this pattern"
    return "no such file or folder"
