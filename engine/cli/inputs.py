"""Arguments of the command line -> the pictures that they name."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from engine.config import PICTURE_SUFFIXES
from engine.image.folders import is_picture, natural_key, walk

STDIN = "-"
# Pictures too, but in formats that are not read: phones write the first, cameras the others.
_UNREAD_SUFFIXES = {".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw"}


@dataclass(frozen=True)
class Pictures:
    """What the arguments name.

    Attributes:
        paths: pictures, in the order of the arguments; ``STDIN`` stands for standard input.
        problems: (name, reason) of each argument that names no picture, and of each folder that cannot be read or has
            pictures that cannot.
        many: true if the arguments could name more than one picture, however many there are now.
    """

    paths: tuple[str, ...]
    problems: tuple[tuple[str, str], ...]
    many: bool


def find_pictures(arguments: Sequence[str]) -> Pictures:
    """Expand files, folders (recursively, through links too) and glob patterns; addresses stay as they are.

    A file is taken whatever its suffix; within folders the suffix decides. Patterns are expanded here
    too, because the shells of Windows pass them on as they are. A file that is not there is a picture that cannot be
    read.
    """
    # Here, so that --help does not load it.
    from engine.jobs.fetch import is_address

    paths: list[str] = []
    problems: list[tuple[str, str]] = []
    many = len(arguments) > 1
    for argument in arguments:
        # Not only regular files: a named pipe is read like one.
        is_file = not os.path.isdir(argument) and (os.path.exists(argument) or not _names_many(argument))
        if argument == STDIN or is_address(argument) or is_file:
            paths.append(argument)
            continue
        many = True
        known = len(problems)
        found = _expand(argument, problems)
        paths += found
        if not found and len(problems) == known:
            problems.append((argument, _reason(argument)))
    return Pictures(tuple(paths), tuple(problems), many)


def _names_many(argument: str) -> bool:
    return glob.has_magic(argument) or argument.endswith(("/", os.sep))


def stream_source(text: str) -> str | int:
    """The number of a camera, unless there is a file or folder of that name, such as 2024."""
    return int(text) if text.isascii() and text.isdecimal() and not os.path.exists(text) else text


def read_picture(picture: str | bytes) -> str | bytes:
    """What to hand to the counter: the bytes of standard input, or the path or bytes as they are."""
    return sys.stdin.buffer.read() if picture == STDIN else picture


def _expand(argument: str, problems: list[tuple[str, str]]) -> list[str]:
    if os.path.isdir(argument):
        return _walk(argument, problems)
    # A folder among the matches of a pattern is walked as if it had been named itself.
    matches = sorted(glob.glob(_with_names_as_they_are(argument), recursive=True), key=natural_key)
    return [path for match in matches for path in (_walk(match, problems) if os.path.isdir(match) else [match])]


def _with_names_as_they_are(pattern: str) -> str:
    """A pattern in which the folders that are there, such as ``trip[1]``, stand for themselves."""
    head, tail = os.path.split(pattern)
    if not head or head == pattern:
        return pattern
    if os.path.isdir(head):
        return os.path.join(glob.escape(head), tail)
    return os.path.join(_with_names_as_they_are(head), tail)


def _walk(root: str, problems: list[tuple[str, str]]) -> list[str]:
    found = []
    for folder, names in walk(root, lambda error: problems.append((str(error.filename), str(error.strerror)))):
        found += [str(folder / name) for name in names if is_picture(name)]
        suffixes = [os.path.splitext(name)[1].lower() for name in names if not name.startswith("._")]
        if unread := [suffix for suffix in suffixes if suffix in _UNREAD_SUFFIXES]:
            kinds = ", ".join(sorted(set(unread)))
            problems.append(
                (str(folder), f"left out {len(unread)} in formats that are not read ({kinds}); convert them")
            )
    return sorted((path for path in found if os.path.isfile(path)), key=natural_key)


def _reason(argument: str) -> str:
    if os.path.isdir(argument):
        return f"no pictures in this folder; expected files ending in {', '.join(sorted(PICTURE_SUFFIXES))}"
    if glob.has_magic(argument):
        return "no file matches this pattern"
    return "no such folder"
