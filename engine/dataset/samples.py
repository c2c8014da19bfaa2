"""Annotated pictures on disk, in any format: pictures with one point per head."""

from __future__ import annotations

import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.config import PICTURE_SUFFIXES
from engine.dataset.entry import Entry, in_pixels, refuse_fractions
from engine.dataset.formats import EMPTY, FORMATS, LEAVE_OUT, SPLITS
from engine.dataset.labels import choose_labels
from engine.dataset.pictures import Found, Pictures, refuse_strangers, walk_data
from engine.dataset.sources import Source, find_sources, read_source
from engine.dataset.splits import split_of_file, split_of_folder, split_of_folders
from engine.errors import ConfigError
from engine.image.decode import upright_size
from engine.image.folders import is_picture

_log = logging.getLogger("engine")
# Published data sets have a few points outside their pictures, and .mat files are not mended by hand.
_DROP_OUTSIDE = ("shanghaitech", "ucf-qnrf", "nwpu", "beijing-brt")


@dataclass(frozen=True)
class Sample:
    """One annotated picture.

    Attributes:
        image: path of the picture.
        points: float32 [N, 2], (x, y) of each head in pixels from the top-left corner.
        part: the folder of the data set that it belongs to, such as ``part_A``, whatever the split.
        split: "train", "val" or "test", as folders and files are called; "train" where they say nothing.
    """

    image: Path
    points: np.ndarray
    part: str
    split: str = "train"

    @property
    def number(self) -> int:
        """The last number in the file's name, or one made of a name without digits; splits are made by it."""
        digits = re.findall(r"[0-9]+", self.image.stem)
        return int(digits[-1]) if digits else zlib.crc32(self.image.stem.encode())


def find_samples(
    data: str | Path,
    split: str | Collection[str] | None = None,
    *,
    annotations: str | Path | None = None,
    form: str | None = None,
    labels: Sequence[str] = (),
) -> list[Sample]:
    """All annotated pictures below ``data``, sorted by path.

    Args:
        data: a folder with pictures and annotations; or an annotation file, whose pictures are below its folder.
        split: "train", "val" or "test", or several; None for all.
        annotations: file or folder of the annotations, where they are not below ``data``.
        form: one of :data:`engine.dataset.formats.FORMATS`; None recognises it (docs/annotations.md has the table).
        labels: those that stand for people; without any, the only one that there is, or "head" or "person".

    Raises:
        ConfigError: nothing there, nothing annotated, or annotations that cannot be right: the message names the file
            and the line or key.
    """
    root = Path(data)
    if root.is_file() and annotations is None:
        root, annotations = root.parent, root
    if not root.is_dir():
        raise ConfigError(f"data folder {root} does not exist; give a folder that has pictures and annotations in it")
    chosen = set(SPLITS) if split is None else {split} if isinstance(split, str) else set(split)
    skip = _Skip(root, chosen)
    sources = find_sources(root, form, skip) if annotations is None else read_source(Path(annotations), form, root)
    sources = choose_labels(sources, labels, str(data))
    samples = _samples(sources, root)
    kept = sorted((s for s in samples if s.split in chosen), key=lambda s: s.image)
    if annotations is None and form is None:
        _refuse_unannotated(root, {s.image.parent for s in samples}, skip)
    if not kept:
        _refuse_nothing(root, sorted(chosen) if skip.seen or samples else [], samples, skip.seen)
    return kept


class _Skip:
    """Whether a folder is of another split than the chosen ones; ``seen`` are the splits of those that were."""

    def __init__(self, root: Path, chosen: set[str]):
        self._root, self._chosen, self.seen = root, chosen, set[str]()

    def __call__(self, folder: Path) -> bool:
        # Where the folder does not say, the annotations may.
        split = split_of_folder(folder, self._root)
        if split is None or split in self._chosen:
            return False
        self.seen.add(split)
        return True


def _samples(sources: Sequence[Source], root: Path) -> list[Sample]:
    found: dict[Path, tuple[Sample, str]] = {}
    anywhere: Pictures | None = None
    for source in sources:
        if source.pictures is None and anywhere is None:
            anywhere = Pictures(root)
        index = anywhere if source.pictures is None else Pictures(source.pictures)
        assert index is not None
        for sample, where in _of_source(source, index, root):
            if sample.image in found:
                raise ConfigError(
                    f"{sample.image} is annotated twice: in {found[sample.image][1]} and in {where}; keep one, or "
                    "choose by --annotations FILE or --annotations-format FORMAT"
                )
            found[sample.image] = sample, where
    return [sample for sample, _ in found.values()]


def _of_source(source: Source, index: Pictures, root: Path) -> list[tuple[Sample, str]]:
    refuse_fractions(source.entries)
    file_split = split_of_file(source.path)

    def sample(picture: Path, points: np.ndarray, split: str | None = None) -> Sample:
        split = split or split_of_folder(picture.parent, root) or file_split or "train"
        return Sample(picture, points, _part(picture, root), split)

    samples = []
    found = _pictures_of(source, index, root)
    for entry, one in found:
        points = in_pixels(entry, upright_size(one.picture), source.format in _DROP_OUTSIDE)
        samples.append((sample(one.picture, points, entry.split), entry.where))
    unlisted = _unlisted(source, index, {one.picture for _, one in found})
    return samples + [(sample(picture, np.zeros((0, 2), np.float32)), str(source.path)) for picture in unlisted]


def _pictures_of(source: Source, index: Pictures, root: Path) -> list[tuple[Entry, Found]]:
    """The picture of each entry; all are there, and are those that were named."""
    found, missing = [], []
    file_split = split_of_file(source.path)
    for entry in source.entries:
        near = entry.folder or source.path
        inside = near.relative_to(root).parts if root in (near, *near.parents) else ()
        one = index.find(entry, near, file_split or split_of_folders(inside))
        if one is None:
            missing.append(entry)
        else:
            found.append((entry, one))
    if missing:
        _refuse_missing(source, missing, index.root)
    refuse_strangers(found)
    return found


def _unlisted(source: Source, index: Pictures, named: set[Path]) -> list[Path]:
    """Pictures beside the annotated ones that the annotations do not name, where that says that nobody is there."""
    folders = {picture.parent for picture in named}
    strict = source.pictures is not None
    others = sorted(p for p in index.all() if p not in named and (strict or p.parent in folders))
    rule = FORMATS[source.format]
    if not others:
        return []
    if rule == EMPTY:
        if source.format == "yolo":
            _log.warning("%s: %d pictures have no text file of labels; nobody is in them", source.path, len(others))
        return others
    if rule == LEAVE_OUT:
        _log.warning("%s: %d pictures beside those annotated are not in it; left out", source.path, len(others))
        return []
    raise ConfigError(
        f"{source.path} has no entry for {others[0].name}"
        + (f" and {len(others) - 1} others" if len(others) > 1 else "")
        + "; every picture needs its points: give it an empty list if nobody is in the picture"
    )


def _refuse_missing(source: Source, missing: Sequence[Entry], folder: Path) -> None:
    """Points whose picture is not there, or is there and would be left out for its suffix."""
    for entry in missing:
        name = Path(entry.names[0]).name
        if Path(name).suffix.lower() not in PICTURE_SUFFIXES and (folder / name).is_file():
            kinds = ", ".join(sorted(PICTURE_SUFFIXES))
            raise ConfigError(
                f"{entry.where} has points of {name}, which is not read as a picture; expected one of {kinds}"
            )
    names = ", ".join(sorted(repr(entry.names[0]) for entry in missing)[:3])
    raise ConfigError(
        f"{missing[0].where if len(missing) == 1 else source.path} has points of {names}, not in {folder} "
        f"({len(missing)} such names in all); "
        + ("put the pictures there" if missing[0].exact else "name each picture as its file, suffix included")
    )


def _refuse_nothing(root: Path, splits: Sequence[str], others: Sequence[Sample], folders: Collection[str]) -> None:
    kind = f" of the split {' or '.join(splits)}" if splits else ""
    if others:
        there = sorted(Counter(sample.split for sample in others).items())
        raise ConfigError(
            f"{root} has no annotated pictures{kind}, but of {', '.join(f'{x} ({n})' for x, n in there)}; "
            "folders and files called so make it (docs/annotations.md, Splits)"
        )
    if folders:
        raise ConfigError(
            f"no annotated pictures{kind} below {root}, but folders of {' and '.join(sorted(folders))}; ask for "
            "another split (docs/annotations.md, Splits)"
        )
    raise ConfigError(
        f"no annotated pictures{kind} below {root}; formats that are recognised: {', '.join(FORMATS)} "
        "(docs/annotations.md)"
    )


def _refuse_unannotated(root: Path, annotated: set[Path], skip: Callable[[Path], bool]) -> None:
    """A folder ``images`` without any points was more likely forgotten than meant to be left out."""
    for folder, names in walk_data(root):
        has_pictures = any(map(is_picture, names))
        if folder.name == "images" and has_pictures and folder not in annotated and not skip(folder):
            raise ConfigError(
                f"{folder.parent} has images but no points: expected ground-truth/, points.json, points.csv or another "
                "format of docs/annotations.md"
            )


def _part(picture: Path, root: Path) -> str:
    parts = [p for p in picture.parent.resolve().parts if p.startswith("part_")]
    return parts[-1] if parts else root.resolve().name
