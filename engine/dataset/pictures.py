"""Names of pictures in annotation files -> the files on this disk."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from engine.config import PICTURE_SUFFIXES
from engine.errors import ConfigError
from engine.image.folders import walk


class Pictures:
    """The pictures below a folder, found by the ends of their paths.

    Annotation files name pictures as they were elsewhere: with folders of another machine, with backslashes, in
    another Unicode form. Only files below ``root`` are ever found.
    """

    def __init__(self, root: Path, on_error: Callable[[OSError], None]) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for folder, names in walk(root, on_error):
            for name in names:
                if Path(name).suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                    self._by_name[_plain(name)].append(folder / name)
                    self._by_stem[_plain(Path(name).stem)].append(folder / name)

    def all(self) -> list[Path]:
        """Every picture."""
        return [picture for pictures in self._by_name.values() for picture in pictures]

    def find(self, names: Iterable[str], near: Path) -> Path | None:
        """The picture of the first name that is there; of several, the one whose path is most like it.

        Args:
            near: folder of the annotation file; among equals, the picture whose path shares most with it.

        Raises:
            ConfigError: several are as good.
        """
        for name in names:
            parts = [_plain(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
            if not parts:
                continue
            found = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1], [])
            if found:
                return _best(found, parts, near, self.root)
        return None


def _best(found: list[Path], parts: list[str], near: Path, root: Path) -> Path:
    def likeness(path: Path) -> tuple[int, int, bool]:
        folders = [_plain(part) for part in path.parent.parts]
        # Names that begin at the root, or at a folder images in it, are there in full.
        whole = folders[len(root.parts) :] in (parts[:-1], parts[parts[0] == "images" : -1])
        return _shared(reversed(folders), reversed(parts[:-1])), _shared(path.parts, near.parts), whole

    ranked = sorted(found, key=likeness, reverse=True)
    if len(ranked) > 1 and likeness(ranked[0]) == likeness(ranked[1]):
        name = "/".join(parts)
        raise ConfigError(
            f"{name!r} may be {ranked[0]} or {ranked[1]}; put folders in front of the names in the annotation file"
        )
    return ranked[0]


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
