"""Annotation files as text, whatever program wrote them, and JSON that may be anything."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter
from typing import Any

from engine.errors import ConfigError

# The keypoints of COCO's whole training set are 238 MB.
_MAX_BYTES = 1 << 29


def read_bytes(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """What is in a file of annotations, or the first ``most`` bytes of it.

    Raises:
        ConfigError: it cannot be read, or is too large.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1 if most is None else most)
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}") from error
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{name} is larger than {_MAX_BYTES >> 20} MiB; split it")
    return data


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8 or UTF-16, or else in Windows-1252, as Excel writes CSV in western countries.

    Raises:
        ConfigError: it cannot be read, is too large, or is no text.
    """
    name, data = os.fspath(path), read_bytes(path)
    for encoding in _encodings(data):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
    raise ConfigError(f"{name}, line {line}: this is no text in UTF-8; save the file as UTF-8")


def utf16_of(data: bytes) -> str | None:
    """The name of the encoding of a file that begins so, if it is one of UTF-16."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Annotation files begin with a character of ASCII, whose other byte is zero.
    if data[:2].count(0) == 1:
        return "utf-16-be" if data[0] == 0 else "utf-16-le"
    return None


def _encodings(data: bytes) -> tuple[str, ...]:
    utf16 = utf16_of(data)
    return (utf16,) if utf16 else ("utf-8-sig", "cp1252")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file.

    Raises:
        ConfigError: as :func:`read_text`; or it is not JSON, has a key twice, nests too deep, or has a NaN.
    """
    name, text = os.fspath(path), read_text(path)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise ConfigError(f"{name}{_line_of_key(text, twice)}: {twice!r} is there twice; keep one of them")
        return table

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=_refuse_constant)
    except ConfigError:
        raise
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name}, line {error.lineno} is not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not JSON that can be read: {error}") from error


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"it has {constant}, which is no number")


def _line_of_key(text: str, key: str) -> str:
    """The line of the second time that ``key`` stands in front of a value, where that is the last one."""
    places = [match.start() for match in re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)]
    return f", line {text.count(chr(10), 0, places[1]) + 1}" if len(places) == 2 else ""
