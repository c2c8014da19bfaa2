"""Names of pictures in annotation files -> the files on this disk."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from engine.dataset.entry import Entry
from engine.dataset.splits import split_of_folders
from engine.errors import ConfigError
from engine.image.folders import is_picture, walk


def walk_data(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """``root`` and every folder below it, each with the names of its files but the hidden ones.

    macOS keeps files of its own beside others, and editors hide theirs.

    Raises:
        ConfigError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ConfigError(f"data folder {error.filename} cannot be read: {error.strerror}") from error

    for folder, names in walk(root, refuse):
        yield folder, [name for name in names if not name.startswith(".")]


@dataclass(frozen=True)
class Found:
    """A picture that a name in an annotation file stands for.

    Attributes:
        folders: those in front of the name.
        shared: how many of them, counted from the last, are the folders that the picture lies in.
        whole: the picture lies in these folders and no others.
    """

    picture: Path
    folders: tuple[str, ...]
    shared: int
    whole: bool


@dataclass(frozen=True)
class _Picture:
    """A picture, and the folders that it lies in: those below the root, and all."""

    path: Path
    below: tuple[str, ...]
    folders: tuple[str, ...]

    def ends_with(self, folders: tuple[str, ...]) -> bool:
        return not folders or self.folders[-len(folders) :] == folders


class Pictures:
    """The pictures below a folder, found by the ends of their paths.

    Annotation files name pictures as they were elsewhere: with folders of another machine, with backslashes, in
    another Unicode form. Only files below ``root`` are ever found.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[_Picture]] = defaultdict(list)
        self._by_stem: dict[str, list[_Picture]] = defaultdict(list)
        # Each folder with pictures, as seen from the root.
        self._below: dict[Path, tuple[str, ...]] = {}
        outside = _plain_parts(Path(os.path.abspath(root)))
        empty, outer = set[Path](), set[Path]()
        for folder, names in walk_data(root):
            pictures = list(filter(is_picture, names))
            below = _plain_parts(folder.relative_to(root))
            for name in pictures:
                picture = _Picture(folder / name, below, outside + below)
                self._by_name[_plain(name)].append(picture)
                self._by_stem[_plain(Path(name).stem)].append(picture)
            outer.add(folder.parent)
            if pictures:
                self._below[folder] = below
            elif not names:
                empty.add(folder)
        # What a picture may be missing from, by the ends of its path: a folder that has others, or that is empty now.
        self._ends: dict[tuple[str, ...], Path] = {}
        for folder in (*self._below, *(empty - outer)):
            parts = outside + _plain_parts(folder.relative_to(root))
            self._ends |= {parts[start:]: folder for start in range(len(parts))}
        self._above = {place for folder in self._below for place in _and_above(folder)}

    def all(self) -> list[Path]:
        """Every picture."""
        return [picture.path for pictures in self._by_name.values() for picture in pictures]

    def find(self, entry: Entry, near: Path, split: str | None = None) -> Found | None:
        """The picture whose path is most like one of the entry's names; among equals, like the first.

        Args:
            near: folder of the annotation file; among equals, the picture whose path shares most with it.
            split: of the annotation file, where its path says it.

        Raises:
            ConfigError: several are as good; or the one that was named is missing where it should be, and this is
                another of the same name.
        """
        names = [_plain_parts(PurePosixPath(name.replace("\\", "/"))) for name in entry.names]
        ranked = [self._ranked(parts, near, entry.exact) for parts in names if parts]
        ranked = [offers for offers in ranked if offers]
        if not ranked:
            return None
        offers = max(ranked, key=lambda offers: offers[0][1].shared)
        likeness, found = offers[0]
        name = "/".join((*found.folders, found.picture.name))
        if len(offers) > 1 and offers[1][0] == likeness:
            raise ConfigError(
                f"{name!r} may be {found.picture} or {offers[1][1].picture}; put folders in front of the names in the "
                "annotation file"
            )
        if reason := self._another(found, near, split):
            raise ConfigError(
                f"{entry.where} has points of {name!r}, {reason}; {found.picture} is another picture of that name"
            )
        return found

    def _ranked(self, parts: tuple[str, ...], near: Path, exact: bool) -> list[tuple[tuple[int, bool], Found]]:
        """The pictures that share most with a name, with how well they suit besides; the best first."""
        pictures = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1], [])
        folders = parts[:-1]
        if exact:
            pictures = [picture for picture in pictures if picture.below == folders]
        # Data sets may have thousands of pictures of one name, of which few share as much as the best.
        deepest = max((len(picture.folders) for picture in pictures), default=0)
        for shared in range(min(len(folders), deepest), -1, -1):
            if best := [picture for picture in pictures if picture.ends_with(folders[len(folders) - shared :])]:
                break
        else:
            return []
        offers = []
        for picture in best:
            # Names that begin at the root, or at a folder images in it, are there in full.
            whole = picture.below in (folders, parts[parts[0] == "images" : -1])
            likeness = _shared(picture.path.parts, near.parts), whole
            offers.append((likeness, Found(picture.path, folders, shared, whole)))
        return sorted(offers, key=lambda offer: offer[0], reverse=True)

    def _another(self, found: Found, near: Path, split: str | None) -> str | None:
        """Why this is another picture than the one that was named, if it is."""
        below = self._below[found.picture.parent]
        if below == found.folders:
            return None
        better = found.folders[-found.shared - 1 :]
        if found.shared < len(found.folders) and better in self._ends:
            return f"which is not in {self._ends[better]}"
        named, other = split_of_folders(found.folders) or split, split_of_folders(below)
        if named and other and named != other:
            return f"which is not in the split {named!r}"
        # A file in whose folder pictures lie is of these.
        place = Path(os.path.abspath(near))
        if not found.shared and place in self._above and place not in _and_above(found.picture.parent):
            return f"which is not in {near}"
        return None


def refuse_strangers(found: Iterable[tuple[Entry, Found]]) -> None:
    """Refuse pictures found by their name alone, where folders beside the one that was named are those named.

    Raises:
        ConfigError: there is one, such as ``cam2/1.jpg`` for ``cam1/1.jpg``, where ``cam2/2.jpg`` is ``cam2/2.jpg``.
    """
    pairs = [(entry, one) for entry, one in found if one.folders]
    there = {one.folders[:-1] for _, one in pairs if one.shared or one.whole}
    for entry, one in pairs:
        if not one.shared and not one.whole and one.folders[:-1] in there:
            raise ConfigError(
                f"{entry.where} has points of {entry.names[0]!r}, whose folder is not there; {one.picture} is another "
                "picture of that name"
            )


def _and_above(folder: Path) -> tuple[Path, ...]:
    place = Path(os.path.abspath(folder))
    return place, *place.parents


def _plain_parts(path: PurePath) -> tuple[str, ...]:
    return tuple(_plain(part) for part in path.parts if part.strip("/") not in ("", ".."))


def _shared(first: Iterable[str], second: Iterable[str]) -> int:
    """Equal parts from the start on."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count


def _plain(text: str) -> str:
    """macOS takes names apart into letters and accents; others do not."""
    return unicodedata.normalize("NFC", text)


def relative_names(paths: Iterable[str]) -> list[str]:
    """Each path as below the folder that all of them have in common, with forward slashes.

    >>> relative_names(["data/a/1.jpg", "data/b/1.jpg"]), relative_names(["a.jpg"])
    (['a/1.jpg', 'b/1.jpg'], ['a.jpg'])
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    if not absolute:
        return []
    try:
        root = os.path.commonpath([path.parent for path in absolute])
    except ValueError:
        # Drives of Windows have nothing in common.
        return [path.name for path in absolute]
    return [str(PurePosixPath(*path.relative_to(root).parts)) for path in absolute]
