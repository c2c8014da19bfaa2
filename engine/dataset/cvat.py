"""CVAT: "CVAT for images 1.1", one XML file of images with points, boxes, ellipses, outlines and skeletons."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from engine.dataset.entry import Entry, Head
from engine.dataset.shapes import head_of, middle
from engine.dataset.text import read_bytes, utf16_of
from engine.errors import ConfigError

_log = logging.getLogger("engine")
_LEFT_OUT = ("polyline", "cuboid", "mask")
# An annotation file nests five deep.
_MAX_DEPTH = 32


def read(path: str | os.PathLike[str]) -> list[Entry]:
    """One entry an image. Every point of a ``<points>`` is a head; boxes and the like become their centres.

    Raises:
        ConfigError: it is no such XML, or something in it is missing or no number; the message has the line. Documents
            that declare entities, which may grow without bound, are refused.
    """
    name, data = os.fspath(path), read_bytes(path)
    utf16 = utf16_of(data)
    reader = _Reader(name, None if utf16 is None else "utf-8")
    try:
        # A program that saves text as UTF-16 may leave the declaration of another encoding in it.
        reader.parser.Parse(data if utf16 is None else data.decode(utf16).encode(), True)
    except ConfigError:
        raise
    except expat.ExpatError as error:
        raise ConfigError(f"{name}, line {error.lineno} is not XML: {expat.ErrorString(error.code)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is no text in UTF-16 ({error.reason}); save it as UTF-8") from error
    except (LookupError, ValueError) as error:
        raise ConfigError(f"{name}, line 1 names an encoding that is not read ({error}); save it as UTF-8") from error
    if reader.left_out:
        _log.warning("%s: left out shapes that are no heads: %s", name, ", ".join(sorted(reader.left_out)))
    declared = tuple(dict.fromkeys(reader.declared))
    return [image.entry(name, declared) for image in reader.images]


def is_cvat(start: bytes) -> bool:
    """Whether a file that begins so may be one."""
    # In UTF-16 each of these characters has a zero beside it.
    return b"<annotations" in start.replace(b"\0", b"")


def write(pictures: list[tuple[str, tuple[int, int], list[list[float]]]]) -> str:
    """Each head as a ``<points>`` of one point."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines.append("  <meta><task><labels><label><name>head</name><type>points</type></label></labels></task></meta>")
    for number, (name, (width, height), points) in enumerate(pictures):
        lines.append(f'  <image id="{number}" name={quoteattr(name)} width="{width}" height="{height}">')
        lines += [
            f'    <points label="head" source="auto" occluded="0" points="{x},{y}" z_order="0"></points>'
            for x, y in points
        ]
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])


@dataclass
class _Image:
    """An image element, and the heads found in it so far, by their lines."""

    name: str
    size: tuple[int, int]
    line: int
    heads: list[Head] = field(default_factory=list)

    def entry(self, file: str, declared: tuple[str, ...]) -> Entry:
        where = file if self.heads else f"{file}, line {self.line}"
        return Entry.of_heads((self.name,), self.heads, where, "line {}", declared=declared, size=self.size)


class _Reader:
    """Handlers of the parser; they know the line."""

    def __init__(self, name: str, encoding: str | None) -> None:
        self.images: list[_Image] = []
        self.declared: list[str] = []
        self.left_out: set[str] = set()
        self._name = name
        self._path: list[str] = []
        self._skeleton: tuple[str, list[tuple[str, float, float]]] | None = None
        # The text of the innermost element, and what the label that is being declared has: its name, and if it is a
        # point of a skeleton, the label of that.
        self._inside = ""
        self._declares: dict[str, str] = {}
        self.parser = expat.ParserCreate(encoding)
        self.parser.CharacterDataHandler = self._add_text
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype

    def _refuse_doctype(self, *_: object) -> None:
        raise self._error("a document type, which may declare entities, is not read; CVAT writes none")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._path and tag != "annotations":
            raise self._error(f"expected <annotations> of CVAT, got <{tag}>")
        if len(self._path) >= _MAX_DEPTH:
            raise self._error(f"it nests deeper than {_MAX_DEPTH} elements")
        parent = self._path[-1] if self._path else ""
        self._path.append(tag)
        self._inside = ""
        if tag == "track" and parent == "annotations":
            raise self._error('this is "CVAT for video"; export as "CVAT for images 1.1"')
        if tag == "image" and parent == "annotations":
            size = int(self._number(attributes, "width")), int(self._number(attributes, "height"))
            self.images.append(_Image(self._text(attributes, "name"), size, self.parser.CurrentLineNumber))
        elif self._path[:-1] == ["annotations", "image"]:
            self._shape(tag, attributes)
        elif parent == "skeleton" and self._skeleton and tag == "points" and attributes.get("outside") != "1":
            self._skeleton[1].append((self._text(attributes, "label"), *self._points(attributes)[0]))

    def _add_text(self, text: str) -> None:
        if len(self._path) > 1 and self._path[1] == "meta":
            self._inside += text

    def _end(self, tag: str) -> None:
        self._path.pop()
        if self._path[-2:] == ["labels", "label"]:
            self._declares[tag] = self._inside.strip()
        elif tag == "label" and self._path[-1:] == ["labels"]:
            if "name" in self._declares and not self._declares.get("parent"):
                self.declared.append(self._declares["name"])
            self._declares = {}
        if tag == "skeleton" and self._skeleton is not None:
            label, keypoints = self._skeleton
            self._skeleton = None
            if not keypoints:
                raise self._error(f"the skeleton {label!r} has no visible points")
            self._add(label, head_of(keypoints) or middle([point[1:] for point in keypoints]))

    def _shape(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _LEFT_OUT:
            self.left_out.add(tag)
        if tag not in ("points", "box", "ellipse", "polygon", "skeleton"):
            return
        label = self._text(attributes, "label")
        if tag == "points":
            for point in self._points(attributes):
                self._add(label, point)
        elif tag == "box":
            # One that is turned is turned about its centre.
            left, top, right, bottom = (self._number(attributes, name) for name in ("xtl", "ytl", "xbr", "ybr"))
            self._add(label, ((left + right) / 2, (top + bottom) / 2))
        elif tag == "ellipse":
            self._add(label, (self._number(attributes, "cx"), self._number(attributes, "cy")))
        elif tag == "polygon":
            self._add(label, middle(self._points(attributes)))
        else:
            self._skeleton = (label, [])

    def _add(self, label: str, point: tuple[float, float]) -> None:
        self.images[-1].heads.append((self.parser.CurrentLineNumber, label, *point))

    def _points(self, attributes: dict[str, str]) -> list[tuple[float, float]]:
        points = []
        for pair in self._text(attributes, "points").split(";"):
            x, _, y = pair.partition(",")
            points.append((self._number({"x": x}, "x"), self._number({"y": y}, "y")))
        return points

    def _text(self, attributes: dict[str, str], name: str) -> str:
        if name not in attributes:
            raise self._error(f"<{self._path[-1]}> has no {name}")
        return attributes[name]

    def _number(self, attributes: dict[str, str], name: str) -> float:
        text = self._text(attributes, name)
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not abs(value) < 1e9 or "_" in text:
            raise self._error(f"{name} of <{self._path[-1]}> must be a number, got {text!r}")
        return value

    def _error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self._name}, line {self.parser.CurrentLineNumber}: {problem}")
