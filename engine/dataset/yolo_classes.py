"""What stands beside YOLO's labels: the names of the classes, and the keypoints that follow each box."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.dataset.text import read_text

_LISTS = ("classes.txt", "obj.names", "predefined_classes.txt")
_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", *_LISTS)
# A quoted text of YAML, which begins where a value may begin.
_QUOTED = r"""(?<![^\s\[{,:-])(?:'(?:[^'\n]|'')*'|"(?:[^"\\\n]|\\.)*")"""
_COMMENT = re.compile(rf"({_QUOTED})|(?:(?<=\s)|^)#[^\n]*", re.MULTILINE)
_PIECE = re.compile(rf"({_QUOTED})|[\]}},]|[^\]}},'\"]+|['\"]")
_NUMBERED = re.compile(r"""['"]?(\d{1,6})['"]?\s*:(?:\s+|$)(.*)""", re.DOTALL)


@dataclass(frozen=True)
class Classes:
    """What a data.yaml says.

    Attributes:
        names: of the classes, by their numbers.
        keypoints: how many follow each box; None where the file does not say it.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    keypoints: int | None = None


def find_classes(folders: Sequence[Path]) -> Classes:
    """What the first of the folders says that has a file of the classes' names; nothing if none has."""
    for folder in folders:
        for name in _FILES:
            if (folder / name).is_file():
                text = read_text(folder / name)
                return _of_list(text) if name in _LISTS else _of_yaml(text)
    return Classes()


def is_classes(name: str) -> bool:
    """Whether a file of this name has the names of classes, a line each."""
    return name.lower() in _LISTS


def _of_list(text: str) -> Classes:
    """A class a line."""
    return Classes({number: line.strip() for number, line in enumerate(text.split("\n")) if line.strip()})


def _of_yaml(text: str) -> Classes:
    """``names`` is a list or numbers with names, in brackets or in lines; ``kpt_shape`` is a list of two numbers."""
    text = _COMMENT.sub(lambda match: match[1] or "", text.replace("\r", ""))
    shape = _values(text, "kpt_shape")
    keypoints = int(shape[0]) if shape.get(0, "").isdecimal() and len(shape[0]) < 5 else None
    return Classes(_values(text, "names"), keypoints)


def _values(text: str, key: str) -> dict[int, str]:
    """The texts below a key of the outermost level, by their numbers; those of a list are counted from 0."""
    match = re.search(rf"^{key}:[ \t]*(?:\n\s*(?=[\[{{]))?", text, re.MULTILINE)
    if not match:
        return {}
    rest = text[match.end() :]
    items = _in_brackets(rest[1:]) if rest[:1] in ("[", "{") else _in_lines(rest)
    values: dict[int, str] = {}
    for number, item in enumerate(items):
        numbered = _NUMBERED.fullmatch(item)
        # A name that is a number and a colon stands in quotes in a list.
        if numbered and rest[:1] != "[":
            values[int(numbered[1])] = _unquoted(numbered[2])
        elif rest[:1] != "{":
            values[number] = _unquoted(item)
    return values


def _in_brackets(text: str) -> Iterator[str]:
    """What stands between the commas, up to the bracket that closes."""
    item = ""
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece in ("]", "}", ","):
            if item.strip():
                yield item.strip()
            item = ""
            if piece != ",":
                return
        else:
            item += piece


def _in_lines(text: str) -> Iterator[str]:
    """What stands in lines of a list, without the dash, or in lines further in than the key."""
    for line in text.split("\n")[1:]:
        if match := re.fullmatch(r"\s*-\s+(\S.*)|\s+(\S.*)", line.rstrip()):
            if match[1] or _NUMBERED.fullmatch(match[2]):
                yield match[1] or match[2]
        elif line.strip():
            return


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1]
    return text
