"""Which split a picture or a file belongs to, as folders and files are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

# Folders and files that data sets keep their splits in are called by these words, with or without digits.
_NAMES = {
    **dict.fromkeys(("test", "test_data", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "val_data"), "val"),
    **dict.fromkeys(("train", "train_data", "training"), "train"),
}


def split_of_folders(names: Sequence[str]) -> str | None:
    """What folders that lie in each other are called, the innermost first; None if that is no split.

    >>> split_of_folders(["test", "val2017", "images"])
    'val'
    """
    known = (_NAMES.get(name.lower().rstrip("0123456789")) for name in reversed(names))
    return next((split for split in known if split), None)


def split_of_folder(folder: Path, root: Path) -> str | None:
    """The split of a folder below ``root``; what ``root`` itself is called says only whether it is for testing."""
    if split := split_of_folders(folder.relative_to(root).parts):
        return split
    return "test" if _NAMES.get(root.resolve().name.lower()) == "test" else None


def split_of_file(path: Path) -> str | None:
    """The split that the last word of a file's name says, as in ``instances_val2017.json``; None of a folder."""
    if not path.is_file():
        return None
    return _NAMES.get(re.split(r"[\W_]+", path.stem.rstrip("0123456789").lower())[-1])
