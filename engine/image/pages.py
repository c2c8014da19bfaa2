"""Files of several pages or frames."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import ExifTags, Image

from engine.errors import ImageError
from engine.image.pixels import Warn

# Pages are looked for up to here, and blocks of a GIF and entries of a TIFF: a hostile file may have millions.
_MOST_COUNTED, _MOST_BLOCKS, _MOST_ENTRIES = 1000, 1 << 20, 1 << 22
# Bytes of an entry in a TIFF and a BigTIFF.
_ENTRY, _BIG_ENTRY = 12, 20
# Formats of the values of an entry in a TIFF, by their type; others are of no use here.
_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class _Found:
    """Frames that were found in a file, pages among them that are no smaller copies, and whether these are all."""

    frames: int
    pages: int
    is_all: bool


def turn_to(image: Image.Image, page: int | None, name: str, warn: Warn) -> None:
    """Seek the page or frame ``page``, from 0, of an image; None stays at the current one.

    Of GIF and TIFF, whose headers do not say how many there are, the file is looked through, and nothing is decoded.

    Args:
        warn: is told of pages beyond the one that is read, unless it was asked for by a number above 0.

    Raises:
        ImageError: there is no such page.
    """
    if page:
        found = _look_for_pages(image, page + 1)
        try:
            if found.is_all and page >= found.frames:
                raise EOFError
            image.seek(page)
        except EOFError as error:
            number = f"it has {found.pages}" if found.is_all else "they are"
            raise ImageError(f"{name} has no page {page}: {number}, numbered from 0") from error
        return
    current = image.tell()
    if page == 0 and current:
        image.seek(0)
        current = 0
    found = _look_for_pages(image, _MOST_COUNTED + 1)
    if found.pages > 1:
        number = str(found.pages) if found.is_all else f"more than {found.pages - 1}"
        read = f"the main one, page {current}," if current else "the first"
        advice = f"page={0 if current else 1} reads the {'first' if current else 'second'}"
        warn(f"the file has {number} pages or frames, of which {read} was read; {advice}")


def _look_for_pages(image: Image.Image, most: int) -> _Found:
    """The frames of an image, up to ``most``, or as far as it takes no long time."""
    look = {"GIF": _frames_of_gif, "TIFF": _pages_of_tiff}.get(image.format or "")
    if look is None:
        # The headers of the others tell.
        frames = int(getattr(image, "n_frames", 1))
        return _Found(frames, frames, True)
    file = _open_file(image)
    if file is None:
        return _Found(1, 1, False)
    place = file.tell()
    try:
        return look(file, most)
    finally:
        file.seek(place)


def _open_file(image: Image.Image) -> IO[bytes] | None:
    """The file of an image while it is open; Pillow puts something else in its place when it is closed."""
    for file in (getattr(image, "fp", None), getattr(image, "_fp", None)):
        if callable(getattr(type(file), "read", None)) and not getattr(file, "closed", False):
            return file
    return None


def _frames_of_gif(file: IO[bytes], most: int) -> _Found:
    """What the blocks of a GIF say, source: GIF89a specification, sections 18 to 25."""
    file.seek(0)
    file.seek(_table(file.read(13)[10]), io.SEEK_CUR)
    frames = blocks = 0
    while frames < most and blocks < _MOST_BLOCKS:
        kind, blocks = file.read(1), blocks + 1
        if kind in (b"", b";"):
            return _Found(frames, frames, True)
        if kind == b"!":
            file.seek(1, io.SEEK_CUR)
        elif kind == b",":
            # Its place and flags, its own table of colours, and the size of its codes.
            flags = file.read(9)[8:]
            file.seek(_table(flags[0] if flags else 0) + 1, io.SEEK_CUR)
            frames += 1
        else:
            continue
        while (size := file.read(1)) not in (b"", b"\0") and blocks < _MOST_BLOCKS:
            file.seek(size[0], io.SEEK_CUR)
            blocks += 1
    return _Found(frames, frames, False)


def _table(flags: int) -> int:
    """Bytes of a table of colours, if the flags say that there is one."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _pages_of_tiff(file: IO[bytes], most: int) -> _Found:
    """What the directories of a TIFF or BigTIFF say, of which each leads to the next; source: TIFF 6.0, section 2."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = 43 in head[2:4]
    count, size, link = ("Q", _BIG_ENTRY, "Q") if is_big else ("H", _ENTRY, "I")
    (next_one,) = struct.unpack_from(order + link, head, 8 if is_big else 4)
    seen: set[int] = set()
    entries = pages = 0
    while next_one and next_one not in seen and next_one < 1 << 63:
        if len(seen) == most or entries > _MOST_ENTRIES:
            return _Found(len(seen), pages, False)
        file.seek(next_one)
        number = int.from_bytes(file.read(struct.calcsize(count)), "little" if order == "<" else "big")
        rows = file.read(min(number, _MOST_ENTRIES) * size)
        rest = file.read(struct.calcsize(link))
        if len(rows) < number * size or len(rest) < struct.calcsize(link):
            break
        seen.add(next_one)
        pages += not _is_copy(rows, size, order)
        entries += number
        (next_one,) = struct.unpack(order + link, rest)
    return _Found(len(seen), pages, True)


def _is_copy(rows: bytes, size: int, order: str) -> bool:
    """Whether the entries of a directory say that it is a reduced version of another, such as a thumbnail."""
    tags = np.ndarray(len(rows) // size, f"{order}u2", rows, 0, (size,))
    for number in np.flatnonzero(tags == int(ExifTags.Base.NewSubfileType))[:1].tolist():
        row = rows[number * size : (number + 1) * size]
        (form,) = struct.unpack_from(f"{order}H", row, 2)
        value = row[8 if size == _ENTRY else 12 :]
        if struct.calcsize(_FORMATS.get(form, "16s")) <= len(value):
            return bool(struct.unpack_from(order + _FORMATS[form], value)[0] & 1)
    return False
